"""Recognizes the images in a folder, splits them, and writes an environment for training on them (`kedro adopt`).

Start with `layouts.recognize`, which tries the layouts one after the other. `split` divides images into train, val and
test, `summary` describes what was found, and `environment` writes the lists and the configuration.
"""
