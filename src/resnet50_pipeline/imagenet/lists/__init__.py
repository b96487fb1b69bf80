"""Reads, checks and generates list files, the `path label` files that define a split.

Start with `files`, which parses and prefixes lists. `generation` creates missing lists from class folders or a ground
truth file, and `problems` reports invalid lines.
"""
