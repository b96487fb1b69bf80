"""Corrupts an image by name and severity, with random numbers that depend only on the image."""

from __future__ import annotations

import zlib
from collections.abc import Callable

import numpy as np

from resnet50_pipeline.imaging.base import Pixels
from resnet50_pipeline.imaging.corruptions import blur, digital, noise, weather
from resnet50_pipeline.imaging.corruptions.names import CORRUPTIONS

# The seed is fixed, so that all models are evaluated on the same corrupted images, as with a published dataset.
_SEED = 0

_FUNCTIONS: dict[str, Callable[[Pixels, int, np.random.Generator], Pixels]] = {
    "gaussian_noise": noise.add_gaussian_noise,
    "shot_noise": noise.add_shot_noise,
    "impulse_noise": noise.add_impulse_noise,
    "defocus_blur": blur.blur_by_defocus,
    "glass_blur": blur.blur_by_glass,
    "motion_blur": blur.blur_by_motion,
    "zoom_blur": blur.blur_by_zoom,
    "snow": weather.add_snow,
    "frost": weather.add_frost,
    "fog": weather.add_fog,
    "brightness": weather.brighten,
    "contrast": digital.reduce_contrast,
    "elastic_transform": digital.transform_elastically,
    "pixelate": digital.pixelate,
    "jpeg_compression": digital.compress,
}


def corrupt(pixels: Pixels, corruption: str, severity: int, image: str) -> Pixels:
    """Return the corrupted image, uint8 [height, width, 3].

    Args:
        pixels: uint8 [height, width, 3], channels red, green, blue.
        corruption: one of `CORRUPTIONS`.
        severity: 1 to 5.
        image: name of the image, such as its path in the list. Together with the corruption and the severity, it
            determines the random numbers.
    """
    draw = np.random.default_rng([_SEED, zlib.crc32(image.encode()), CORRUPTIONS.index(corruption), severity])
    return _FUNCTIONS[corruption](pixels, severity, draw)
