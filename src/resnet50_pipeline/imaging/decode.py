"""From the bytes of an image file to pixels, the way PaddleClas' `DecodeImage` does it."""

from __future__ import annotations

import io
import warnings

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from resnet50_pipeline.exceptions import ImageDecodeError
from resnet50_pipeline.imagenet.jpeg_stream import END_OF_IMAGE, JpegHeader, find_end_of_image, read_jpeg_header
from resnet50_pipeline.imaging.bitmap import view_bitmap
from resnet50_pipeline.imaging.turbo import decode_plain_jpeg

# The ranks and the loader's workers are the parallelism; OpenCV's own threads would fight them for the cores.
cv2.setNumThreads(0)

# Half a gigabyte of pixels at most, as for the scan (Pillow's own bound of a decompression bomb). The largest picture
# of ILSVRC2012 has 2.5e7.
MAX_PIXELS = 89_478_485

_JPEG_START, _PNG_START, _PNG_END = b"\xff\xd8", b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"
# Enough for the header of nearly every JPEG; of the others, Pillow reads it.
_HEADER_BYTES = 4096
# EXIF orientations from here on turn a picture by a quarter.
_FIRST_TURNED = 5


def decode_image(data: bytes, name: str = "image") -> NDArray[np.uint8]:
    """Return the pixels of an encoded image: uint8 [height, width, 3], channels blue, green, red.

    As in PaddleClas (`cv2.imdecode(data, 1)`): grey and CMYK become three channels, and an EXIF orientation is
    applied, here as in training, evaluation and serving. A JPEG or PNG that was cut off is refused; OpenCV 4.6, which
    paddleclas pins, would fill the rest of a JPEG with grey and say nothing. Where simplejpeg is installed it decodes
    the plain JPEGs, to the same pixels (see `turbo`). A BMP as shards have it (`bitmap`) is looked at where it is, so
    its pixels cannot be written to.

    Raises:
        ImageDecodeError: OpenCV finds no image in the bytes, they end before the image does, or it has more than
            `MAX_PIXELS` pixels, of which none was decoded.
    """
    if not data:
        raise ImageDecodeError(f"{name}: is empty, 0 bytes; replace the file or take its line out of the list")
    packed = view_bitmap(data)
    if packed is not None:
        return packed
    header = require_decodable(data, name)
    if header is not None and (fast := decode_plain_jpeg(data, header)) is not None:
        return fast
    encoded = np.frombuffer(_without_colour_profile(data), dtype=np.uint8)
    try:
        pixels: NDArray[np.uint8] | None = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise ImageDecodeError(f"{name}: cannot be decoded ({len(data)} bytes): {error}") from error
    if pixels is None:
        raise ImageDecodeError(
            f"{name}: {len(data)} bytes that begin with {data[:8]!r} are no image that OpenCV can decode; "
            f"replace the file or take its line out of the list"
        )
    return pixels


def require_decodable(data: bytes, name: str = "image") -> JpegHeader | None:
    """Check, without decoding, that the bytes reach the image's end and that there are not too many pixels.

    Returns:
        The header of a JPEG of the ordinary kind, None for everything else.

    Raises:
        ImageDecodeError: they do not, or there are.
    """
    if view_bitmap(data) is not None:
        return None
    _require_end(data, name)
    header = _read_header(data)
    width, height = _seen_size(header) if header is not None else _read_size_with_pillow(data, name)
    if width * height > MAX_PIXELS:
        raise ImageDecodeError(
            f"{name}: has {width} x {height} pixels, more than {MAX_PIXELS}, and was not decoded; "
            f"replace it by a smaller one"
        )
    return header


def read_size(data: bytes, name: str = "image") -> tuple[int, int]:
    """Return width and height as the image is seen, EXIF orientation applied; (0, 0) for what is no known image.

    Raises:
        ImageDecodeError: the header claims more pixels than any picture has.
    """
    header = _read_header(data)
    return _seen_size(header) if header is not None else _read_size_with_pillow(data, name)


def _read_header(data: bytes) -> JpegHeader | None:
    return read_jpeg_header(data[:_HEADER_BYTES]) if data.startswith(_JPEG_START) else None


def _seen_size(header: JpegHeader) -> tuple[int, int]:
    is_turned = header.exif_orientation >= _FIRST_TURNED
    return (header.height, header.width) if is_turned else (header.width, header.height)


def _require_end(data: bytes, name: str) -> None:
    """Raise where the bytes end before the image: nearly always told by the last ones alone."""
    if data.startswith(_JPEG_START):
        # Something may stand behind the end; then the segments are walked, as the scan does.
        is_whole = data.endswith(END_OF_IMAGE) or find_end_of_image(data) != -1
    else:
        is_whole = not data.startswith(_PNG_START) or data.endswith(_PNG_END) or _PNG_END in data
    if not is_whole:
        raise ImageDecodeError(
            f"{name}: was cut off: {len(data)} bytes without the image's end, so it cannot be decoded whole; "
            f"download or copy it again"
        )


def _without_colour_profile(data: bytes) -> bytes:
    """Return a PNG without its colour profile; anything else as it is.

    OpenCV does not apply the profile, and its libpng complains of a common one on the standard error stream: "iCCP:
    known incorrect sRGB profile".
    """
    if not data.startswith(_PNG_START):
        return data
    place = len(_PNG_START)
    # A chunk: the length of its data in four bytes, four letters, the data, a checksum of four bytes.
    while place + 8 <= len(data):
        kind = data[place + 4 : place + 8]
        end = place + 12 + int.from_bytes(data[place : place + 4], "big")
        if kind == b"iCCP":
            return data[:place] + data[end:]
        if kind in (b"IDAT", b"IEND"):  # the profile stands before the pixels
            break
        place = end
    return data


def _read_size_with_pillow(data: bytes, name: str) -> tuple[int, int]:
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(data)) as image:  # of size, of EXIF data
            width, height = image.size
            is_turned = image.getexif().get(ExifTags.Base.Orientation, 1) >= _FIRST_TURNED
            return (height, width) if is_turned else (width, height)
    except Image.DecompressionBombError as error:
        raise ImageDecodeError(f"{name}: {error}; it was not decoded; replace it by a smaller one") from error
    except Exception:  # Pillow's parsers raise whatever damaged bytes lead them to, and OpenCV has the last word
        return 0, 0
