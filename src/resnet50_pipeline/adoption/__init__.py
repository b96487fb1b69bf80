"""Recognizes a folder of images, splits it, and writes the environment that trains on it (`kedro adopt`).

Start with `layouts.recognize`, which tries the layouts one after the other. `split` divides images into train, val and
test, `summary` describes what was found, and `environment` writes the lists and the configuration.
"""
