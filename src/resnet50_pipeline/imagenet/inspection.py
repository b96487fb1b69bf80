"""What one image file is, and whether every pixel of it can be decoded."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import re
import stat
import warnings
from pathlib import Path
from typing import Literal, NamedTuple

from PIL import ExifTags, Image, UnidentifiedImageError

from resnet50_pipeline.imaging.decode import decode_image

Status = Literal["ok", "missing", "not_a_file", "outside_root", "undecodable", "unlisted"]

# The formats that Pillow and the OpenCV of training, evaluation and serving both decode.
DECODED_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF")
# Pillow's own limit, beyond which it speaks of a decompression bomb: 256 MiB of RGB. ImageNet's largest has 61 MP.
MAX_PIXELS = 89_478_485
MAX_BYTES = 256 * 1024 * 1024

_MARKER_IN_SCAN = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]", re.DOTALL)
_END_OF_IMAGE, _START_OF_SCAN = 0xD9, 0xDA
_STANDALONE_MARKERS = frozenset({0x01, *range(0xD0, 0xD8)})
_EXIF_ORIENTATIONS = range(1, 9)
_TIFF_HEADERS = (b"II*\0", b"MM\0*")


class Inspection(NamedTuple):
    """What was found at one path; the fields are columns of the manifest.

    Attributes:
        bytes: size of the file.
        format: by content, not by name: JPEG, PNG, BMP, WEBP, TIFF; empty where unknown.
        mode: Pillow's name of the pixel format: L, RGB, CMYK, …
        width: pixels as stored, before any EXIF rotation.
        height: the same.
        sha256: hexadecimal, of the whole file; empty where it was not read.
        exif_orientation: 1..8 as EXIF defines it, 1 where there is none, 0 where the EXIF data is damaged.
        status: "ok", or what is wrong.
        problem: what is wrong in words, and what to do; empty where status is "ok".
    """

    bytes: int = 0
    format: str = ""
    mode: str = ""
    width: int = 0
    height: int = 0
    sha256: str = ""
    exif_orientation: int = 1
    status: Status = "ok"
    problem: str = ""


def inspect_image(root: Path, path: str) -> Inspection:
    """Read the file at `root / path` once, and decode every pixel. Never raises for what it finds, and never blocks.

    Args:
        root: dataset root, with symbolic links resolved.
        path: POSIX path relative to `root`.
    """
    file = root / path
    try:
        status = file.stat()
    except (OSError, ValueError) as error:
        return Inspection(status="missing", problem=_explain_missing(file, error))
    if not stat.S_ISREG(status.st_mode):
        return Inspection(
            status="not_a_file", problem=f"is {_kind(status.st_mode)} → put the image there, or take its line out"
        )
    outside = _find_target_outside(root, file)
    if status.st_size > MAX_BYTES:
        found = Inspection(
            bytes=status.st_size,
            status="undecodable",
            problem=f"has {status.st_size} bytes, more than {MAX_BYTES} → replace it",
        )
    else:
        try:
            data = _read(file)
        except OSError as error:
            return Inspection(status="not_a_file", problem=f"cannot be read: {error.strerror} → make it readable")
        found = inspect_bytes(data)
    if outside and found.status == "ok":
        problem = f"is or lies behind a symbolic link out of the dataset root, to {outside} → copy it below the root"
        return found._replace(status="outside_root", problem=problem)
    return found


def inspect_bytes(data: bytes) -> Inspection:
    """Return what the bytes of an image file are, after decoding every pixel with Pillow.

    Pillow says nothing of a JPEG whose end was replaced by zeros, as a crash or a broken download leaves it; so the
    end-of-image marker is looked for besides.
    """
    found = Inspection(bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
    if not data:
        return found._replace(status="undecodable", problem="has zero bytes → download or copy it again")
    try:
        return _decode(data, found)
    except Image.DecompressionBombError as error:
        return found._replace(status="undecodable", problem=f"{error} → replace it by a smaller one")
    except Exception as error:  # Pillow's parsers raise whatever damaged bytes lead them to
        return found._replace(status="undecodable", problem=_explain_undecodable(data, error))


def _decode(data: bytes, found: Inspection) -> Inspection:
    """Return `found` with what the image is, or raise what Pillow raises."""
    # Pillow warns of large images and, on opening already, of damaged EXIF data; both are looked at here.
    with (
        warnings.catch_warnings(record=True, action="always") as caught,
        Image.open(io.BytesIO(data), formats=DECODED_FORMATS) as image,
    ):
        # A JPEG with further pictures behind it (MPO) is a JPEG.
        image_format = "JPEG" if image.format == "MPO" else str(image.format)
        found = found._replace(format=image_format, mode=image.mode, width=image.width, height=image.height)
        if image.width * image.height > MAX_PIXELS:
            raise Image.DecompressionBombError(f"has {image.width} x {image.height} pixels, more than {MAX_PIXELS}")
        image.load()
        if image_format == "JPEG" and not has_end_of_image(data):
            raise EOFError("the end-of-image marker is missing, so the file was cut off")
        if image_format != "JPEG":
            decode_image(data)  # OpenCV, which trains, knows less of these: no animated WEBP, no TIFF of 32 bits
        orientation = _read_orientation(image)
        is_damaged = any("EXIF" in str(warning.message) for warning in caught)
        return found._replace(exif_orientation=0 if is_damaged else orientation)


def has_end_of_image(data: bytes) -> bool:
    """Tell whether a JPEG stream reaches its end-of-image marker (ITU-T T.81, annex B).

    The segments are walked, for the two bytes of the marker also stand in an embedded thumbnail.
    """
    position = 2
    while True:
        position = data.find(b"\xff", position)
        while position != -1 and data[position : position + 1] == b"\xff":
            position += 1
        if position == -1 or position >= len(data):
            return False
        marker = data[position]
        position += 1
        if marker == _END_OF_IMAGE:
            return True
        if marker in _STANDALONE_MARKERS:
            continue
        position += int.from_bytes(data[position : position + 2], "big")
        if marker == _START_OF_SCAN:
            # Inside a scan, FF 00 is a byte of data and FF D0..D7 are restart markers.
            next_marker = _MARKER_IN_SCAN.search(data, position)
            if next_marker is None:
                return False
            position = next_marker.start()


def _read(file: Path) -> bytes:
    """Read a regular file; open it such that not even a FIFO that took its place since could block."""
    descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as opened:  # noqa: PTH123 - a descriptor, not a path
        return opened.read(MAX_BYTES + 1)


def _read_orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 where none is given, 0 where the EXIF data cannot be read."""
    data = image.info.get("exif", b"").removeprefix(b"Exif\0\0")
    if data and not data.startswith(_TIFF_HEADERS):
        return 0  # of which Pillow says nothing
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # as above; a picture with damaged EXIF data is still a picture
        return 0
    return orientation if orientation in _EXIF_ORIENTATIONS else 0


def _find_target_outside(root: Path, file: Path) -> Path | None:
    """Return where the file really is if that is not below `root`."""
    real = file.resolve()
    return None if real.is_relative_to(root) else real


def _explain_missing(file: Path, error: OSError | ValueError) -> str:
    if isinstance(error, PermissionError):
        return "cannot be reached: permission denied → make its folder readable"
    try:
        target = file.readlink()
    except (OSError, ValueError):
        return "is missing → put the image there, or take its line out of the list"
    fault = "leads in a circle" if getattr(error, "errno", None) == errno.ELOOP else "does not exist"
    return f"is a symbolic link to {target}, which {fault} → mend the link"


def _kind(mode: int) -> str:
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(mode), "a device")


def _explain_undecodable(data: bytes, error: Exception) -> str:
    start = data[:64].lstrip().lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        return f"is a web page, not an image (begins with {data[:15]!r}) → download the image again"
    if isinstance(error, UnidentifiedImageError):
        return f"is no image of a known format (begins with {data[:8]!r}) → replace it"
    return f"cannot be decoded whole: {error} → replace it"
