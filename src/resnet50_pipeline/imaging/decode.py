"""Decodes image files to pixels. The formats and rules are the same in every stage.

The scan, training, evaluation, `kedro predict` and the served model all call `decode_image`, so they accept and reject
the same files:

- The format is detected from the content: JPEG, PNG, BMP, WebP, GIF, or TIFF if the caller allows it.
- A decoder warning is an error, because it means that the decoder invented pixels.
- The first frame of an animation is decoded. The EXIF orientation is applied. Transparency is dropped.
- The number of pixels and the aspect ratio are limited and checked before decoding.

simplejpeg (libjpeg-turbo) decodes JPEG, and Pillow decodes everything else. OpenCV is not used, because OpenCV only
prints decoder warnings to stderr and returns the invented pixels. For intact images, the pixels are identical to those
of PaddleClas' `DecodeImage`, which calls OpenCV's `imdecode`.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import warnings
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import (
    BmpImagePlugin,
    ExifTags,
    GifImagePlugin,
    Image,
    ImageFile,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
    features,
)

from resnet50_pipeline.exceptions import ImageDecodeError
from resnet50_pipeline.imaging.bitmap import view_bitmap
from resnet50_pipeline.imaging.formats.bmp import read_bmp
from resnet50_pipeline.imaging.formats.container import Container, DamagedImageError
from resnet50_pipeline.imaging.formats.gif import read_gif
from resnet50_pipeline.imaging.formats.identify import ACCEPTED, TIFF, identify_format
from resnet50_pipeline.imaging.formats.orientation import UPRIGHT, read_exif_orientation
from resnet50_pipeline.imaging.formats.png import read_png
from resnet50_pipeline.imaging.formats.webp import read_webp
from resnet50_pipeline.imaging.jpeg_stream import (
    JpegHeader,
    UnsupportedJpegError,
    are_complete,
    find_end_of_image,
    read_jpeg_header,
    read_scans,
)

MAX_BYTES = 64 << 20
"""Largest file, in bytes."""
MAX_PIXELS = 89_478_485
"""Largest image: 256 MiB as RGB, as in Pillow. The largest image in ILSVRC2012 has 61 million pixels."""
MAX_ASPECT_RATIO = 100
"""Largest aspect ratio. Resizing the short side of a narrower strip to 256 pixels could take gigabytes."""

_CONVERT, _REPLACE, _RESTORE = (
    "convert it to JPEG or PNG",
    "replace it with a smaller image",
    "download or copy it again",
)
_NAMES, _NAMES_OR = "JPEG, PNG, BMP, WebP and GIF", "JPEG, PNG, BMP, WebP or GIF"
_READERS: dict[str, Callable[[bytes], Container]] = {
    "PNG": read_png,
    "WEBP": read_webp,
    "GIF": read_gif,
    "BMP": read_bmp,
}
# Used directly instead of `Image.open`, which would try all of Pillow's formats.
_PLUGINS: dict[str, Callable[[io.BytesIO], ImageFile.ImageFile]] = {
    "PNG": PngImagePlugin.PngImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    TIFF: TiffImagePlugin.TiffImageFile,
}
# A progressive JPEG takes one pass over all pixels per scan. Most files have about ten scans, but even a small file can
# have thousands.
_MAX_SCANNED_PIXELS = 16 * MAX_PIXELS
_HEADER_BYTES = 4096
# Pillow modes that can be converted to three 8-bit channels.
_CONVERTIBLE = frozenset({"1", "L", "LA", "La", "P", "PA", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr"})
# An image whose 8-bit values are all below this value looks black.
_BLACK = 16


class StoredImage(NamedTuple):
    """The contents of an image file, determined without decoding.

    Attributes:
        format: JPEG, PNG, BMP, WEBP, GIF or TIFF.
        mode: Pillow's name for the pixel format: L, RGB, CMYK, …
        width: stored width in pixels, before the EXIF orientation is applied.
        height: stored height in pixels, before the EXIF orientation is applied.
        exif_orientation: 1..8 as defined by EXIF; 1 if there is none, 0 if the EXIF data is damaged.
        end: position after the last byte of the image.
        ignored: content that decoding ignores, such as `11 of 12 frames`; empty if nothing is ignored.
    """

    format: str
    mode: str
    width: int
    height: int
    exif_orientation: int
    end: int
    ignored: str


def decode_image(data: bytes, *, tiff: bool = False) -> NDArray[np.uint8]:
    """Return the pixels of an encoded image: uint8 [height, width, 3], channels blue, green, red.

    The pixels may be read-only.

    Args:
        data: bytes of the file.
        tiff: whether to accept TIFF files.

    Raises:
        ImageDecodeError: if the format is not accepted, the decoder reports an error or warning, or the image exceeds a
            limit.
    """
    return decode_reduced(data, 0, tiff=tiff)


def decode_reduced(data: bytes, min_side: int, *, tiff: bool = False) -> NDArray[np.uint8]:
    """Decode an image like `decode_image`, but reduce the size of a JPEG if possible, which is faster.

    libjpeg-turbo divides both sides by a factor from 1 to 8 such that each side keeps at least `min_side` pixels. If
    `min_side` is 0, the size is not reduced.

    Raises:
        ImageDecodeError: for the same reasons as `decode_image`.
    """
    if (packed := view_bitmap(data)) is not None:
        _require_size(packed.shape[1], packed.shape[0])
        return packed
    image_format = _require_format(data, tiff=tiff)
    if image_format != "JPEG":
        return _decode_with_pillow(data, image_format)
    header = _require_jpeg_header(data)
    pixels = _decode_jpeg(data, header, min_side)
    return _apply_orientation(pixels, header.exif_orientation)


def describe_image(data: bytes, *, tiff: bool = False) -> StoredImage:
    """Read the structure of an image file without decoding it.

    Raises:
        ImageDecodeError: for the same reasons as `decode_image`, as far as these can be detected without decoding.
    """
    image_format = _require_format(data, tiff=tiff)
    if image_format == "JPEG":
        return _describe_jpeg(data)
    container = _read_container(data, image_format)
    with _open_with_pillow(data, image_format, container) as image:
        orientation, bits = read_exif_orientation(container.exif), container.bits
        frames = container.frames
        if isinstance(image, TiffImagePlugin.TiffImageFile):
            orientation, bits, frames = _read_tiff_orientation(image), _read_tiff_bits(image), _count_pages(image)
        ignored = _list_ignored(frames, bits, orientation, container.hidden_orientation)
        return StoredImage(image_format, image.mode, *image.size, orientation, container.end, ignored)


def find_plain_jpeg_header(data: bytes) -> JpegHeader | None:
    """Return the header if the image is a JPEG with three channels and no EXIF rotation, otherwise None.

    Raises:
        ImageDecodeError: if the JPEG exceeds a limit, or its header is damaged.
    """
    if identify_format(data) != "JPEG":
        return None
    header = _require_jpeg_header(data)
    return header if header.is_plain else None


def find_common_jpeg_header(start: bytes) -> JpegHeader | None:
    """Return the header of an ordinary JPEG, which has one scan, is within all limits and has no ignored content.

    Args:
        start: the first bytes of the file.

    Returns:
        The header, or None for any other file or if the header extends beyond `start`.
    """
    if identify_format(start) != "JPEG":
        return None
    try:
        header = read_jpeg_header(start)
        _require_size(header.width, header.height)
    except (UnsupportedJpegError, ImageDecodeError):
        return None
    return header if header.has_one_scan and header.xmp_orientation == UPRIGHT else None


def require_file_size(size: int) -> None:
    """Raise ImageDecodeError if a file of `size` bytes is too large."""
    if size > MAX_BYTES:
        raise ImageDecodeError(f"is {size:,} bytes, over the limit of {MAX_BYTES:,}", _REPLACE)


def describe_decoders() -> str:
    """Return the names and versions of the decoding libraries: `simplejpeg 1.9.0, Pillow 13.0.0 (…)`."""
    inside = [
        f"{name} {version}"
        for name, feature in (("libwebp", "webp"), ("libtiff", "libtiff"))
        if (version := features.version(feature))
    ]
    return (
        f"simplejpeg {importlib.metadata.version('simplejpeg')}, Pillow {importlib.metadata.version('pillow')} "
        f"({', '.join(inside)})"
    )


def _require_format(data: bytes, *, tiff: bool) -> str:
    if not data:
        raise ImageDecodeError("is empty (0 bytes)", _RESTORE)
    require_file_size(len(data))
    found = identify_format(data)
    if found in ACCEPTED or (found == TIFF and tiff):
        return found
    if found == TIFF:
        raise ImageDecodeError(
            f"is a TIFF file, but only {_NAMES} are accepted", f"{_CONVERT}, or set dataset.tiff: true"
        )
    if found:
        article = "an" if found[0] in "AIHO" and found != "HEIC" else "a"
        raise ImageDecodeError(f"is {article} {found} file, but only {_NAMES} are accepted", _CONVERT)
    if data[:64].lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml", b"<svg")):
        raise ImageDecodeError(f"is a web page, not an image (starts with {data[:15]!r})", "download the image again")
    raise ImageDecodeError(
        f"is not in an accepted image format (starts with {data[:8]!r})", f"replace it with a {_NAMES_OR} file"
    )


def _require_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise ImageDecodeError(f"has {width} x {height} pixels, over the limit of {MAX_PIXELS}", _REPLACE)
    if max(width, height) > MAX_ASPECT_RATIO * min(width, height):
        raise ImageDecodeError(
            f"has {width} x {height} pixels, but the longer side can be at most {MAX_ASPECT_RATIO} times the shorter",
            "crop it or remove it",
        )


def _require_jpeg_header(data: bytes) -> JpegHeader:
    """Return the header of a JPEG after checking the limits."""
    try:
        try:
            header = read_jpeg_header(data[:_HEADER_BYTES])
        except UnsupportedJpegError:
            header = read_jpeg_header(data)
    except UnsupportedJpegError as error:
        raise ImageDecodeError(str(error), _RESTORE if error.is_damaged else _CONVERT) from error
    _require_size(header.width, header.height)
    if not header.has_one_scan:
        scans = read_scans(data)
        if len(scans) * header.width * header.height > _MAX_SCANNED_PIXELS:
            raise ImageDecodeError(
                f"has {len(scans)} scans of {header.width} x {header.height} pixels, which take too long to decode",
                _CONVERT,
            )
        if not are_complete(header.components, scans):
            raise ImageDecodeError(f"is truncated: it contains only the first {len(scans)} scans", _RESTORE)
    return header


def _decode_jpeg(data: bytes, header: JpegHeader, min_side: int) -> NDArray[np.uint8]:
    """Return the pixels before the EXIF rotation, reduced as in `decode_reduced`."""
    size = {"min_height": min_side, "min_width": min_side}
    try:
        if header.mode != "CMYK":
            bgr: NDArray[np.uint8] = simplejpeg.decode_jpeg(data, "BGR", strict=True, **size)
            return bgr
        cmyk: NDArray[np.uint8] = simplejpeg.decode_jpeg(data, "CMYK", strict=True, **size)
    except (ValueError, RuntimeError) as error:
        raise ImageDecodeError(f"cannot be decoded completely: libjpeg-turbo says {str(error)!r}", _RESTORE) from error
    # OpenCV's formula. It assumes inverted channels, as nearly all programs do.
    black = cmyk[..., 3:].astype(np.uint16)
    return (black - ((255 - cmyk[..., 2::-1]) * black >> 8)).astype(np.uint8)


def _describe_jpeg(data: bytes) -> StoredImage:
    header = _require_jpeg_header(data)
    end = find_end_of_image(data)
    if end == -1:
        raise ImageDecodeError(f"is truncated: its {len(data)} bytes contain no end-of-image marker", _RESTORE)
    ignored = _list_ignored(1, 8, header.exif_orientation, header.xmp_orientation)
    return StoredImage("JPEG", header.mode, header.width, header.height, header.exif_orientation, end, ignored)


def _read_container(data: bytes, image_format: str) -> Container:
    if image_format == TIFF:
        return Container(len(data))
    try:
        return _READERS[image_format](data)
    except DamagedImageError as error:
        raise ImageDecodeError(str(error), _RESTORE) from error


def _open_with_pillow(data: bytes, image_format: str, container: Container) -> ImageFile.ImageFile:
    """Open an image with Pillow, which reads only the header, and check the limits."""
    try:
        with _raising_warnings(image_format):
            image = _PLUGINS[image_format](io.BytesIO(container.essential or data))
    except Exception as error:  # Pillow raises many exception types for damaged files
        raise ImageDecodeError(f"cannot be decoded: {error}", _RESTORE) from error
    _require_size(*image.size)
    return image


def _decode_with_pillow(data: bytes, image_format: str) -> NDArray[np.uint8]:
    container = _read_container(data, image_format)
    with _open_with_pillow(data, image_format, container) as image:
        bits = _read_tiff_bits(image) if isinstance(image, TiffImagePlugin.TiffImageFile) else container.bits
        try:
            with _raising_warnings(image_format):
                image.load()  # also applies the orientation of a TIFF
            pixels = _narrow(image) if image.mode.startswith("I") and bits == 16 else _to_bgr(image)
        except ImageDecodeError:
            raise
        except Exception as error:  # many types, as above
            raise ImageDecodeError(f"cannot be decoded completely: {error}", _RESTORE) from error
    if bits > 8 and int(pixels.max()) < _BLACK:
        raise ImageDecodeError(
            f"has {bits} bits per channel, but no value above a sixteenth of the range, so the image would be black in "
            "8 bits",
            "scale the values to 8 bits and save the image again",
        )
    return _apply_orientation(pixels, read_exif_orientation(container.exif))


def _raising_warnings(image_format: str) -> contextlib.AbstractContextManager[object]:
    """Turn Pillow's warnings into exceptions. Only Pillow's TIFF decoder emits warnings."""
    return warnings.catch_warnings(action="error") if image_format == TIFF else contextlib.nullcontext()


def _to_bgr(image: Image.Image) -> NDArray[np.uint8]:
    if image.mode not in _CONVERTIBLE and image.mode != "RGB":
        raise ImageDecodeError(f"has pixels of type {image.mode}, which do not fit into 8 bits per channel", _CONVERT)
    image.info.pop("transparency", None)  # otherwise Pillow warns that transparency is dropped
    rgb = image if image.mode == "RGB" else image.convert("RGB")
    return np.frombuffer(rgb.tobytes("raw", "BGR"), dtype=np.uint8).reshape(rgb.height, rgb.width, 3)


def _narrow(image: Image.Image) -> NDArray[np.uint8]:
    """Return the upper 8 bits of 16-bit gray values in three channels, as OpenCV does."""
    gray = (np.asarray(image) >> 8).astype(np.uint8)
    return np.repeat(gray[..., None], 3, axis=2)


def _read_tiff_orientation(image: TiffImagePlugin.TiffImageFile) -> int:
    orientation = image.tag_v2.get(ExifTags.Base.Orientation, UPRIGHT)
    return orientation if orientation in range(1, 9) else 0


def _read_tiff_bits(image: TiffImagePlugin.TiffImageFile) -> int:
    bits = image.tag_v2.get(ExifTags.Base.BitsPerSample, (8,))
    return max(bits) if isinstance(bits, tuple) else int(bits)


def _count_pages(image: TiffImagePlugin.TiffImageFile) -> int:
    try:
        return image.n_frames
    except Exception:  # many types, as above: a page after the first is damaged
        return 2


def _list_ignored(frames: int, bits: int, orientation: int, hidden_orientation: int) -> str:
    """Describe the content that decoding ignores, or return "" if there is none."""
    parts = []
    if frames > 1:
        parts.append(f"{frames - 1} of {frames} frames")
    if bits > 8:
        parts.append(f"{bits - 8} of {bits} bits per channel")
    if hidden_orientation != UPRIGHT and orientation <= UPRIGHT:
        parts.append(f"orientation {hidden_orientation}, which is not in EXIF data")
    return ", ".join(parts)


def _apply_orientation(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Apply an EXIF orientation: 2 to 4 flip the image, 5 to 8 also transpose it."""
    if orientation <= UPRIGHT:
        return pixels
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    vertical = slice(None, None, -1) if orientation in (3, 4, 7, 8) else slice(None)
    horizontal = slice(None, None, -1) if orientation in (2, 3, 6, 7) else slice(None)
    return np.ascontiguousarray(pixels[vertical, horizontal])
