"""Reads, checks and repackages datasets in ImageNet's folder layout.

Start with `layout`, which locates the parts of a dataset and reads its list files. `lists` parses and generates list
files, `scan` inspects every image and builds the manifest, `archives` reads ImageNet's tar files, and `shards` packs
images for training.
"""
