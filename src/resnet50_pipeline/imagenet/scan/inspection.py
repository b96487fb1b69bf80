"""Inspects the bytes of one image at three levels.

structure    a regular file exists below the root
header       format, size and EXIF data are read from the first bytes, and the file is complete; nothing is decoded
full         every pixel is decoded, and the digest is computed; `tasks` then measures the content
"""

from __future__ import annotations

import hashlib
from typing import Literal, NamedTuple

from resnet50_pipeline.exceptions import ImageDecodeError
from resnet50_pipeline.imaging.content.measures import SmallImage, reduce_pixels
from resnet50_pipeline.imaging.decode import decode_image, describe_image, find_common_jpeg_header
from resnet50_pipeline.imaging.jpeg_stream import END_OF_IMAGE

ScanLevel = Literal["structure", "header", "full"]
# From cheapest to most thorough.
SCAN_LEVELS: tuple[ScanLevel, ...] = ("structure", "header", "full")
Status = Literal["ok", "missing", "not_a_file", "outside_root", "undecodable", "unlisted", "other_file"]

# Nearly all JPEG headers fit into one page. Reading a second page takes as long as parsing the header.
HEADER_BYTES = 4096


class Inspection(NamedTuple):
    """Result of inspecting one image. All fields but `small` are columns of the manifest.

    Attributes:
        bytes: size of the file.
        format: JPEG, PNG, BMP, WEBP, GIF or TIFF, detected from the content, not the name; empty for other formats.
        mode: Pillow's name for the pixel format: L, RGB, CMYK, …
        width: pixels as stored, before any EXIF rotation.
        height: pixels as stored, before any EXIF rotation.
        sha256: hexadecimal digest of the entire file; empty at the `structure` and `header` levels.
        exif_orientation: 1..8 as defined by EXIF; 1 if there is none, 0 if the EXIF data is damaged.
        trailing_bytes: number of bytes after the end of a JPEG, which decoders ignore. The `header` level misses these
            bytes if they end in another end-of-image marker.
        ignored: content that decoding ignores, such as "11 of 12 frames"; empty if nothing is ignored.
        status: "ok", or the kind of problem.
        problem: description of the problem and the next step; empty if status is "ok".
        small: reduced image, whose content is measured later; None if the image was not decoded.
    """

    bytes: int = 0
    format: str = ""
    mode: str = ""
    width: int = 0
    height: int = 0
    sha256: str = ""
    exif_orientation: int = 1
    trailing_bytes: int = 0
    ignored: str = ""
    status: Status = "ok"
    problem: str = ""
    small: SmallImage | None = None


def inspect_bytes(data: bytes, *, tiff: bool = False) -> Inspection:
    """Inspect an image file by decoding every pixel, as training, evaluation and serving do.

    Args:
        data: bytes of the file.
        tiff: whether to accept TIFF files.
    """
    found = Inspection(bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
    try:
        pixels = decode_image(data, tiff=tiff)
        described = _describe(data, found, tiff=tiff)
    except ImageDecodeError as error:
        return found._replace(status="undecodable", problem=f"{error} → {error.remedy}")
    return described._replace(small=reduce_pixels(pixels))


def inspect_header(data: bytes, *, tiff: bool = False) -> Inspection:
    """Inspect an image file and check that it is complete, without decoding it."""
    if data.endswith(END_OF_IMAGE) and (found := inspect_jpeg_ends(data[:HEADER_BYTES], len(data))):
        return found
    found = Inspection(bytes=len(data))
    try:
        return _describe(data, found, tiff=tiff)
    except ImageDecodeError as error:
        return found._replace(status="undecodable", problem=f"{error} → {error.remedy}")


def inspect_jpeg_ends(start: bytes, size: int) -> Inspection | None:
    """Inspect the header of a common JPEG with an end-of-image marker at its end. Return None for any other file."""
    header = find_common_jpeg_header(start)
    if header is None:
        return None
    return Inspection(size, "JPEG", header.mode, header.width, header.height, "", header.exif_orientation)


def _describe(data: bytes, found: Inspection, *, tiff: bool) -> Inspection:
    stored = describe_image(data, tiff=tiff)
    return found._replace(
        format=stored.format,
        mode=stored.mode,
        width=stored.width,
        height=stored.height,
        exif_orientation=stored.exif_orientation,
        trailing_bytes=len(data) - stored.end,
        ignored=stored.ignored,
    )
