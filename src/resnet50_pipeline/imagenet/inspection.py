"""What the bytes of one image are, and whether they are whole, at three levels.

structure    there is a regular file of some size below the root
header       format, pixels and EXIF by its first bytes, and that it reaches its end; nothing is decoded
full         every pixel is decoded, and the digest taken
"""

from __future__ import annotations

import hashlib
import io
import warnings
from typing import Literal, NamedTuple

from PIL import ExifTags, Image, UnidentifiedImageError

from resnet50_pipeline.imagenet.jpeg_stream import END_OF_IMAGE, find_end_of_image, read_jpeg_header

ScanLevel = Literal["structure", "header", "full"]
# From the cheapest to the most thorough.
SCAN_LEVELS: tuple[ScanLevel, ...] = ("structure", "header", "full")
Status = Literal["ok", "missing", "not_a_file", "outside_root", "undecodable", "unlisted"]

# The formats that Pillow and the OpenCV of training, evaluation and serving both decode.
DECODED_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF")
# Pillow's own limit, beyond which it speaks of a decompression bomb: 256 MiB of RGB. ImageNet's largest has 61 MP.
MAX_PIXELS = 89_478_485
MAX_BYTES = 256 * 1024 * 1024

# Where the image data start in nearly all JPEG files. One page: a second one costs as much as the parsing.
HEADER_BYTES = 4096
_PNG_END = b"IEND\xaeB`\x82"
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
        sha256: hexadecimal, of the whole file; empty at the levels structure and header.
        exif_orientation: 1..8 as EXIF defines it, 1 where there is none, 0 where the EXIF data is damaged.
        trailing_bytes: bytes behind the end of a JPEG, which no decoder looks at. Level header sees none where they
            end in an end-of-image marker themselves.
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
    trailing_bytes: int = 0
    status: Status = "ok"
    problem: str = ""


def inspect_bytes(data: bytes) -> Inspection:
    """Return what the bytes of an image file are, after decoding every pixel with Pillow.

    Pillow says nothing of a JPEG whose end was replaced by zeros, as a crash or a broken download leaves it; so the
    end-of-image marker is looked for besides.
    """
    return _inspect_whole(data, Inspection(bytes=len(data), sha256=hashlib.sha256(data).hexdigest()), is_decoded=True)


def inspect_header(data: bytes) -> Inspection:
    """Return what the bytes of an image file say of themselves, and whether they reach their end. Decodes nothing."""
    if data.endswith(END_OF_IMAGE) and (found := accept_header(data[:HEADER_BYTES], len(data))):
        return found
    return _inspect_whole(data, Inspection(bytes=len(data)), is_decoded=False)


def accept_header(start: bytes, size: int) -> Inspection | None:
    """Return what a JPEG file of the plain kind is that ends in an end-of-image marker; None asks for a closer look."""
    header = read_jpeg_header(start)
    if header is None or header.width * header.height > MAX_PIXELS:
        return None
    return Inspection(size, "JPEG", header.mode, header.width, header.height, "", header.exif_orientation)


def _inspect_whole(data: bytes, found: Inspection, *, is_decoded: bool) -> Inspection:
    if not data:
        return found._replace(status="undecodable", problem="has zero bytes → download or copy it again")
    try:
        return _open(data, found, is_decoded=is_decoded)
    except Image.DecompressionBombError as error:
        return found._replace(status="undecodable", problem=f"{error} → replace it by a smaller one")
    except Exception as error:  # Pillow's parsers raise whatever damaged bytes lead them to
        return found._replace(status="undecodable", problem=_explain_undecodable(data, error))


def _open(data: bytes, found: Inspection, *, is_decoded: bool) -> Inspection:
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
        if is_decoded:
            image.load()
        if image_format == "JPEG":
            end = find_end_of_image(data)
            if end == -1:
                raise EOFError("the end-of-image marker is missing, so the file was cut off")
            found = found._replace(trailing_bytes=len(data) - end)
        elif is_decoded:
            _require_opencv(data)
        else:
            _require_end(data, image_format)
        orientation = _read_orientation(image)
        is_damaged = any("EXIF" in str(warning.message) for warning in caught)
        return found._replace(exif_orientation=0 if is_damaged else orientation)


def _require_opencv(data: bytes) -> None:
    """Raise where OpenCV, which trains, knows less of a rare format than Pillow: TIFF of 32 bits, say."""
    # Here, for the scan of JPEG files needs no OpenCV.
    from resnet50_pipeline.imaging.decode import decode_image

    decode_image(data)


def _require_end(data: bytes, image_format: str) -> None:
    """Raise EOFError for a PNG or WebP file that is cut off. BMP and TIFF files do not say where they end."""
    if image_format == "PNG" and _PNG_END not in data:
        raise EOFError("the IEND chunk is missing, so the file was cut off")
    if image_format == "WEBP" and len(data) < 8 + int.from_bytes(data[4:8], "little"):
        raise EOFError("it is shorter than its RIFF header says, so it was cut off")


def _read_orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 where none is given, 0 where the EXIF data cannot be read."""
    if image.format == "JPEG" and "exif" not in image.info and "xmp" not in image.info:
        return 1  # which saves Pillow's search
    data = image.info.get("exif", b"").removeprefix(b"Exif\0\0")
    if data and not data.startswith(_TIFF_HEADERS):
        return 0  # of which Pillow says nothing
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # as above; a picture with damaged EXIF data is still a picture
        return 0
    return orientation if orientation in _EXIF_ORIENTATIONS else 0


def _explain_undecodable(data: bytes, error: Exception) -> str:
    start = data[:64].lstrip().lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        return f"is a web page, not an image (begins with {data[:15]!r}) → download the image again"
    if isinstance(error, UnidentifiedImageError):
        return f"is no image of a known format (begins with {data[:8]!r}) → replace it"
    return f"cannot be decoded whole: {error} → replace it"
