"""Reads ImageNet's tar archives as they are distributed.

Start with `parts`, which finds the tars inside an archive and reads their images. `images` indexes archives so that
images can be read without unpacking, `unpack` extracts the images, and `published_md5` verifies downloads.
"""
