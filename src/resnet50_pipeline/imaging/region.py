"""Decodes only the window of a JPEG that a random crop needs, using NVIDIA's nvImageCodec on the CPU.

Above and to the sides of the window, libjpeg-turbo reads the entropy-coded data but skips the inverse DCT and color
conversion. Below the window, libjpeg-turbo skips everything. The decoder includes enough surrounding pixels for chroma
upsampling, so the result is bit-identical to a crop of the full image.

The decoder does not report damage. It prints libjpeg-turbo's warnings to stderr and returns gray pixels. When a process
reads an image for the first time, it therefore decodes the image in full (see `IntactImages`).
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
    """Keeps track of the images that this process has decoded completely, without warnings."""

    def __init__(self, images: int) -> None:
        """Start with no intact images.

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
    """Return the pixels of a random window, uint8 [height, width, 3], channels blue, green, red.

    If nvImageCodec is not installed or the image is not a plain JPEG, the full image is decoded and cropped.

    Args:
        data: bytes of an intact image (see `IntactImages`).
        crop: crop operator that samples the window.
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
    return zlib.adler32(data) or 1  # 0 means that the image has not been added


def _codec() -> _Codec | None:
    """Return this process's codec. A forked child needs a new one, because it does not inherit the decoder's thread."""
    if os.getpid() not in _codecs:
        _codecs[os.getpid()] = _load_codec() if can_decode_regions() else None
    return _codecs[os.getpid()]


# Also keeps the parent's codec alive in a forked child, where the codec's destructor would wait for the missing thread.
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
        logger.warning("cannot load %s (%s); decoding full images instead, which gives the same result", PACKAGE, error)
        return None
    return _Codec(module, decoder, parameters)


@contextlib.contextmanager
def _silence_stderr() -> Iterator[None]:
    """Discard what the libraries print to file descriptor 2 on machines without a GPU."""
    original = os.dup(2)
    try:
        with Path(os.devnull).open("wb") as null:
            os.dup2(null.fileno(), 2)
        yield
    finally:
        os.dup2(original, 2)
        os.close(original)
