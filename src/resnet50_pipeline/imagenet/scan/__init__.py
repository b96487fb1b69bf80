"""Scans a dataset: walks its folders, inspects every image and builds the manifest.

Start with `scan.scan_dataset`. `inspection` finds the problems of an image, `cache` keeps results between scans, and
`executors` distributes the work to processes or Dask.
"""
