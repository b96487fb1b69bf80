"""The part of a JPEG that a random crop looks at, and no more, decoded by NVIDIA's nvImageCodec on the CPU.

libjpeg-turbo still reads the entropy-coded data of what stands above and beside the part, but does neither the inverse
DCT nor the colours of it, and nothing at all of what stands below. Around the part it decodes as many pixels more as
the upsampling of colours looks at, so the result is that of cutting the part out of the whole picture, bit for bit.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import random
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from resnet50_pipeline.imaging.decode import decode_image, require_decodable
from resnet50_pipeline.imaging.geometry import RandCropImage
from resnet50_pipeline.imaging.turbo import is_plain

PACKAGE = "nvidia-nvimgcodec-cu12"


class _Codec(NamedTuple):
    """nvImageCodec, what decodes with it in this process, and how."""

    module: Any
    decoder: Any
    parameters: Any


def decode_window(data: bytes, crop: RandCropImage, draw: random.Random) -> NDArray[np.uint8]:
    """Draw a crop's window, and return its pixels [height, width, 3], channels blue, green, red.

    Where nvImageCodec is not installed, or the image is no plain JPEG (see `turbo.is_plain`), the whole of it is
    decoded and the window cut out.

    Raises:
        ImageDecodeError: the bytes are no image that can be decoded whole.
    """
    header = require_decodable(data)
    codec = _codec() if header is not None and is_plain(header) else None
    if codec is not None and header is not None:
        left, top, width, height = crop.draw_window(header.width, header.height, draw)
        region = codec.module.Region(top, left, top + height, left + width)
        stream = codec.module.CodeStream(data).get_sub_code_stream(region=region)
        image = codec.decoder.decode(stream, params=codec.parameters)
        if image is not None:
            return np.asarray(image)
        return decode_image(data)[top : top + height, left : left + width]
    pixels = decode_image(data)
    left, top, width, height = crop.draw_window(pixels.shape[1], pixels.shape[0], draw)
    return pixels[top : top + height, left : left + width]


def can_decode_regions() -> bool:
    """Tell whether nvImageCodec is installed and works."""
    return _codec() is not None


@cache
def _codec() -> _Codec | None:
    try:
        with _without_its_greetings():
            module: Any = importlib.import_module("nvidia.nvimgcodec")
            return _Codec(
                module,
                module.Decoder(
                    device_id=module.NVIMGCODEC_DEVICE_CPU_ONLY,
                    max_num_cpu_threads=1,
                    backends=[module.Backend(module.BackendKind.CPU_ONLY)],
                    options=":fancy_upsampling=1 :fast_idct=0",
                ),
                module.DecodeParams(apply_exif_orientation=False, sample_format=module.SampleFormat.I_BGR),
            )
    except (ImportError, AttributeError, RuntimeError, TypeError):
        return None


@contextlib.contextmanager
def _without_its_greetings() -> Iterator[None]:
    """Keep what its libraries write to descriptor 2 when they find no GPU out of the log."""
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


# A decoder has a thread of its own, which a child process does not inherit.
os.register_at_fork(after_in_child=_codec.cache_clear)
