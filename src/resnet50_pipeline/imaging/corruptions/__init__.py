"""Corrupts images as in the ImageNet-C benchmark (Hendrycks and Dietterich 2019, arXiv:1903.12261).

The constants come from the paper's code for 224-pixel images. Lengths in pixels, such as the radius of a blur, are
multiplied by (shorter side / 224), so that they cover the same fraction of the image in any size. The functions
implement the published definitions without using the paper's code, so individual pixels differ.
"""
