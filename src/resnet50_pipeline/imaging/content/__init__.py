"""Measures the content of images: hashes that find near-identical images, and scores that find odd ones.

Start with `measures.measure_content`, which the full scan calls for each image.
"""
