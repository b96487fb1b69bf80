"""Recognizes the images in a folder, splits them, and writes an environment for training on them (`kedro adopt`).

Start with `layouts.recognize`, which tries one layout after another. `split` divides the images into train, val and
test, `summary` describes the dataset, and `environment` writes the lists and the configuration.
"""
