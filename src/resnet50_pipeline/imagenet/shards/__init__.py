"""Packs images into shards, which are large tar files that training reads with one `pread` per image.

Start with `shard_set` for the format, `packing.pack_dataset` to write a set and `source.open_images` to read one.
"""
