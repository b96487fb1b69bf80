"""Corrupts images as the ImageNet-C benchmark does (Hendrycks and Dietterich 2019, arXiv:1903.12261).

The constants are those of the paper's code for 224-pixel images. Lengths in pixels, such as the radius of a blur, are
multiplied by (shorter side / 224), so that a blur covers the same part of a larger or smaller image. The functions
follow the published definitions, not their code, so single pixels differ.
"""
