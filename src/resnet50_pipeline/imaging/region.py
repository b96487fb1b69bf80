"""The part of a JPEG that a random crop looks at, and no more, decoded by NVIDIA's nvImageCodec on the CPU.

libjpeg-turbo still reads the entropy-coded data of what stands above and beside the part, but does neither the inverse
DCT nor the colours of it, and nothing at all of what stands below. Around the part it decodes as many pixels more as
the upsampling of colours looks at, so the result is that of cutting the part out of the whole picture, bit for bit.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import logging
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from resnet50_pipeline.imaging.decode import decode_image, require_decodable
from resnet50_pipeline.imaging.geometry import RandCropImage
from resnet50_pipeline.imaging.turbo import is_plain

PACKAGE = "nvidia-nvimgcodec-cu12"
_MODULE = "nvidia.nvimgcodec"

logger = logging.getLogger(__name__)


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
    """Tell whether nvImageCodec is installed; it is loaded where it is used, not here."""
    try:
        return importlib.util.find_spec(_MODULE) is not None
    except ModuleNotFoundError:  # of the package around it
        return False


def _codec() -> _Codec | None:
    """Return this process' own codec: a decoder has a thread, which a child process would not inherit."""
    if os.getpid() not in _codecs:
        _codecs[os.getpid()] = _load_codec() if can_decode_regions() else None
    return _codecs[os.getpid()]


# A parent's stays in it: its destructor would wait for the thread.
_codecs: dict[int, _Codec | None] = {}


def _load_codec() -> _Codec | None:
    try:
        with _without_its_greetings():
            module: Any = importlib.import_module(_MODULE)
            decoder = module.Decoder(
                device_id=module.NVIMGCODEC_DEVICE_CPU_ONLY,
                max_num_cpu_threads=1,
                backends=[module.Backend(module.BackendKind.CPU_ONLY)],
                options=":fancy_upsampling=1 :fast_idct=0",
            )
            parameters = module.DecodeParams(apply_exif_orientation=False, sample_format=module.SampleFormat.I_BGR)
    except (ImportError, AttributeError, RuntimeError, TypeError) as error:
        logger.warning("%s does not work here, images are decoded whole, to the same pixels: %s", PACKAGE, error)
        return None
    return _Codec(module, decoder, parameters)


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
