"""Decodes only the window of a JPEG that a random crop needs, with NVIDIA's nvImageCodec on the CPU.

Above, to the left and to the right of the window, libjpeg-turbo reads the entropy-coded data but skips the inverse DCT
and color conversion. Below the window, it skips everything. It decodes enough pixels around the window for chroma
upsampling, so the result is bit-identical to a crop of the full image.

The decoder does not report damage: it prints libjpeg-turbo's warnings to stderr and returns gray pixels. A process
therefore decodes each image in full the first time (see `IntactImages`).
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import logging
import os
import random
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from resnet50_pipeline.imaging.decode import decode_image, find_plain_jpeg_header
from resnet50_pipeline.imaging.geometry import RandCropImage

PACKAGE = "nvidia-nvimgcodec-cu12"
_MODULE = "nvidia.nvimgcodec"

logger = logging.getLogger(__name__)


class _Codec(NamedTuple):
    """The nvImageCodec module, with a decoder and its parameters."""

    module: Any
    decoder: Any
    parameters: Any


class IntactImages:
    """Remembers which images of a list this process has decoded completely and without a warning."""

    def __init__(self, images: int) -> None:
        """Start without any known images.

        Args:
            images: number of images in the list.
        """
        self._checksums = np.zeros(images, dtype=np.uint32)

    def contains(self, row: int, data: bytes) -> bool:
        """Return whether the image in a row was added with the same bytes."""
        return bool(self._checksums[row] == _checksum(data))

    def add(self, row: int, data: bytes) -> None:
        """Add the image in a row after decoding it completely."""
        self._checksums[row] = _checksum(data)


def decode_window(data: bytes, crop: RandCropImage, rng: random.Random, *, tiff: bool = False) -> NDArray[np.uint8]:
    """Draw a random window for a crop, and return its pixels [height, width, 3], channels blue, green, red.

    If nvImageCodec is not installed, or if the image is not a plain JPEG, the full image is decoded and cropped.

    Args:
        data: an intact image, see `IntactImages`.
        crop: crop operator that draws the window.
        rng: random number generator for the window.
        tiff: whether to accept TIFF files.

    Raises:
        ImageDecodeError: if the image cannot be decoded.
    """
    header = find_plain_jpeg_header(data)
    codec = None if header is None else _codec()
    if header is not None and codec is not None:
        left, top, width, height = crop.draw_window(header.width, header.height, rng)
        region = codec.module.Region(top, left, top + height, left + width)
        stream = codec.module.CodeStream(data).get_sub_code_stream(region=region)
        image = codec.decoder.decode(stream, params=codec.parameters)
        if image is not None:
            return np.asarray(image)
        return decode_image(data)[top : top + height, left : left + width]
    pixels = decode_image(data, tiff=tiff)
    left, top, width, height = crop.draw_window(pixels.shape[1], pixels.shape[0], rng)
    return pixels[top : top + height, left : left + width]


def can_decode_regions() -> bool:
    """Check whether nvImageCodec is installed, without loading it."""
    try:
        return importlib.util.find_spec(_MODULE) is not None
    except ModuleNotFoundError:  # the parent package is missing
        return False


def _checksum(data: bytes) -> int:
    return zlib.adler32(data) or 1  # 0 marks an image that is not known yet


def _codec() -> _Codec | None:
    """Return the codec of this process.

    A forked child needs its own, because it does not inherit the decoder's thread.
    """
    if os.getpid() not in _codecs:
        _codecs[os.getpid()] = _load_codec() if can_decode_regions() else None
    return _codecs[os.getpid()]


# A forked child keeps its parent's codec here, because the codec's destructor would wait for the missing thread.
_codecs: dict[int, _Codec | None] = {}


def _load_codec() -> _Codec | None:
    try:
        with _silence_stderr():
            module: Any = importlib.import_module(_MODULE)
            decoder = module.Decoder(
                device_id=module.NVIMGCODEC_DEVICE_CPU_ONLY,
                max_num_cpu_threads=1,
                backends=[module.Backend(module.BackendKind.CPU_ONLY)],
                options=":fancy_upsampling=1 :fast_idct=0",
            )
            parameters = module.DecodeParams(apply_exif_orientation=False, sample_format=module.SampleFormat.I_BGR)
    except (ImportError, AttributeError, RuntimeError, TypeError) as error:
        logger.warning("cannot load %s (%s); full images are decoded instead, with the same result", PACKAGE, error)
        return None
    return _Codec(module, decoder, parameters)


@contextlib.contextmanager
def _silence_stderr() -> Iterator[None]:
    """Discard the messages that the libraries write to file descriptor 2 on machines without a GPU."""
    original = os.dup(2)
    try:
        with Path(os.devnull).open("wb") as null:
            os.dup2(null.fileno(), 2)
        yield
    finally:
        os.dup2(original, 2)
        os.close(original)
