"""Image files that every stage must accept, and files that every stage must reject, keyed by name."""

from __future__ import annotations

import functools
import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

SIZE = (48, 40)  # width, height
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
)


def noise(mode: str = "RGB", size: tuple[int, int] = SIZE, seed: int = 0) -> Image.Image:
    """Return an image of noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def encode(image: Image.Image | None = None, image_format: str = "JPEG", **options: Any) -> bytes:
    """Return the bytes of an image file."""
    file = io.BytesIO()
    (image or noise()).save(file, image_format, **options)
    return file.getvalue()


def with_exif(orientation: int) -> Image.Exif:
    """Return EXIF data with an orientation."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def png_chunk(kind: bytes, content: bytes) -> bytes:
    """Return a chunk of a PNG file."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def make_png(width: int, height: int, bits: int, color: int, rows: bytes, *extra: bytes) -> bytes:
    """Return a PNG file with these raw rows. Each row starts with its filter byte."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0))
    pixels = png_chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(extra) + pixels + png_chunk(b"IEND", b"")


def gray_png_of_16_bits(brightest: int) -> bytes:
    """Return a 16-bit gray PNG whose values go from 0 to `brightest`."""
    values = np.linspace(0, brightest, SIZE[0] * SIZE[1]).reshape(SIZE[1], SIZE[0]).astype(">u2")
    return make_png(*SIZE, 16, 0, b"".join(b"\0" + row.tobytes() for row in values))


def rgb_png_of_16_bits(brightest: int) -> bytes:
    """Return a 16-bit RGB PNG of noise up to `brightest`."""
    values = np.random.default_rng(0).integers(0, brightest + 1, (SIZE[1], SIZE[0], 3)).astype(">u2")
    return make_png(*SIZE, 16, 2, b"".join(b"\0" + row.tobytes() for row in values))


def with_segment(jpeg: bytes, marker: int, content: bytes) -> bytes:
    """Return a JPEG with another segment after its start."""
    return jpeg[:2] + b"\xff" + bytes([marker]) + struct.pack(">H", len(content) + 2) + content + jpeg[2:]


def with_frame_marker(jpeg: bytes, marker: int) -> bytes:
    """Return a JPEG whose baseline frame has a different marker."""
    return jpeg.replace(b"\xff\xc0", b"\xff" + bytes([marker]), 1)


def flip_byte(data: bytes, position: int) -> bytes:
    """Return the data with one byte inverted."""
    damaged = bytearray(data)
    damaged[position] ^= 0xFF
    return bytes(damaged)


def animation(image_format: str) -> bytes:
    """Return an animation of three frames."""
    frames = [noise(seed=seed) for seed in range(3)]
    return encode(frames[0], image_format, save_all=True, append_images=frames[1:], duration=100)


def many_scans() -> bytes:
    """Return a progressive JPEG of 4000 x 4000 pixels that repeats one scan until decoding would take minutes."""
    whole = _claim_size(encode(progressive=True), 4000, 4000)
    start = whole.rindex(b"\xff\xda")
    return whole[:start] + whole[start:-2] * 200 + whole[-2:]


def _accepted() -> dict[str, bytes]:
    gray, jpeg = noise("L"), encode()
    raw_exif = "\nexif\n      20\n" + with_exif(6).tobytes().removeprefix(b"Exif\0\0").hex() + "\n"
    text = PngInfo()
    text.add_text("Raw profile type exif", raw_exif)
    return {
        "JPEG": jpeg,
        "JPEG, progressive": encode(progressive=True),
        "JPEG, restart markers": encode(restart_marker_blocks=2),
        "JPEG, 4:4:4": encode(subsampling=0),
        "JPEG, gray": encode(gray),
        "JPEG, CMYK": encode(noise("CMYK")),
        "JPEG, thumbnail": with_segment(jpeg, 0xE2, encode(noise(size=(8, 8)))),
        "JPEG, damaged EXIF": encode(exif=b"Exif\0\0broken"),
        "JPEG, XMP orientation": with_segment(jpeg, 0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP),
        "JPEG, trailing bytes": jpeg + b"behind",
        "JPEG, second picture": jpeg + encode(gray),
        **{f"JPEG, EXIF orientation {number}": encode(exif=with_exif(number)) for number in range(1, 9)},
        "PNG": encode(None, "PNG"),
        "PNG, gray": encode(gray, "PNG"),
        "PNG, 1 bit": encode(noise("1"), "PNG"),
        "PNG, palette": encode(noise("P"), "PNG"),
        "PNG, transparent palette": encode(noise("P"), "PNG", transparency=b"\0\x80"),
        "PNG, transparency": encode(noise("RGBA"), "PNG"),
        "PNG, gray with transparency": encode(noise("LA"), "PNG"),
        "PNG, 16 bits": gray_png_of_16_bits(65535),
        "PNG, 16 bits, RGB": rgb_png_of_16_bits(65535),
        "PNG, EXIF orientation 6": encode(None, "PNG", exif=with_exif(6)),
        "PNG, EXIF in text": encode(None, "PNG", pnginfo=text),
        "PNG, animated": animation("PNG"),
        "PNG, trailing bytes": encode(None, "PNG") + b"behind",
        "BMP": encode(None, "BMP"),
        "BMP, gray": encode(gray, "BMP"),
        "BMP, palette": encode(noise("P"), "BMP"),
        "BMP, trailing bytes": encode(None, "BMP") + b"behind",
        "WebP": encode(None, "WEBP"),
        "WebP, lossless": encode(None, "WEBP", lossless=True),
        "WebP, transparency": encode(noise("RGBA"), "WEBP", lossless=True),
        "WebP, EXIF orientation 6": encode(None, "WEBP", exif=with_exif(6)),
        "WebP, XMP orientation": encode(None, "WEBP", xmp=XMP),
        "WebP, animated": animation("WEBP"),
        "WebP, trailing bytes": encode(None, "WEBP") + b"behind",
        "GIF": encode(noise("P"), "GIF"),
        "GIF, gray": encode(gray, "GIF"),
        "GIF, animated": animation("GIF"),
        "GIF, trailing bytes": encode(noise("P"), "GIF") + b"behind",
        "strip, 100 : 1": encode(noise(size=(200, 2))),
    }


def _refused() -> dict[str, bytes]:
    jpeg, png, gif = encode(), encode(None, "PNG"), encode(noise("P"), "GIF")
    webp, bmp = encode(None, "WEBP"), encode(None, "BMP")
    idat = png.index(b"IDAT")
    return {
        "nothing": b"",
        "a web page": b"<!DOCTYPE html><html>404</html>",
        "text": b"plain text",
        "JPEG, a third with an end marker": _end_early(encode(noise(size=(96, 80)))),
        "JPEG, progressive, a third with an end marker": _end_early(encode(noise(size=(96, 80)), progressive=True)),
        "JPEG, gray, a third with an end marker": _end_early(encode(noise("L", size=(96, 80)))),
        "JPEG, CMYK, a third with an end marker": _end_early(encode(noise("CMYK", size=(96, 80)))),
        "JPEG, half": jpeg[: len(jpeg) // 2],
        "JPEG, without its end": jpeg[:-2],
        "JPEG, ends in zeros": jpeg[: len(jpeg) // 2] + bytes(len(jpeg) // 2),
        "JPEG, bytes before the end marker": jpeg[:-2] + bytes(40) + b"\xff\xd9",
        "JPEG, lossless": with_frame_marker(jpeg, 0xC3),
        "JPEG, arithmetic": with_frame_marker(jpeg, 0xC9),
        "JPEG, 12 bits": jpeg.replace(b"\xff\xc0\0\x11\x08", b"\xff\xc1\0\x11\x0c", 1),
        "JPEG, many scans": many_scans(),
        "PNG, half": png[: len(png) // 2],
        "PNG, without its end": png[:-12],
        "PNG, wrong checksum of pixels": flip_byte(png, png.index(b"IEND") - 5),
        "PNG, wrong checksum of text": encode(None, "PNG", pnginfo=_text()).replace(b"a note", b"a Note"),
        "PNG, damaged pixels": _repair_checksum(flip_byte(png, idat + 60), idat),
        "PNG, 16 bits, black": gray_png_of_16_bits(255),
        "PNG, 16 bits, nearly black": rgb_png_of_16_bits(4095),
        "PNG, bomb": make_png(60_000, 60_000, 8, 2, bytes(1000)),
        "PNG, strip": make_png(65_000, 1, 8, 0, bytes(65_001)),
        "BMP, half": bmp[: len(bmp) // 2],
        "BMP, bomb": bmp[:18] + struct.pack("<ii", 60_000, 60_000) + bmp[26:],
        "WebP, half": webp[: len(webp) // 2],
        "WebP, half with matching sizes": _shorten_webp(webp),
        "GIF, half": gif[: len(gif) // 2],
        "GIF, without its end": gif[:-1],
        "GIF, bomb": gif[:6] + struct.pack("<HH", 60_000, 60_000) + gif[10:],
        "JPEG, bomb": _claim_size(jpeg, 60_000, 60_000),
        "JPEG, strip": encode(Image.new("RGB", (65_000, 1))),
        "TIFF": encode(None, "TIFF"),
        "JPEG 2000": encode(None, "JPEG2000"),
        "JPEG 2000, raw": encode(None, "JPEG2000", no_jp2=True),
        "AVIF": b"\0\0\0\x18ftypavif" + bytes(100),
        "PNM": encode(None, "PPM"),
        "ICO": encode(None, "ICO"),
        "QOI": b"qoif" + bytes(100),
        "HEIC": b"\0\0\0\x18ftypheic" + bytes(100),
        "OpenEXR": b"v/1\x01" + bytes(100),
    }


def _end_early(jpeg: bytes) -> bytes:
    """Return the first third of a JPEG, followed by an end-of-image marker."""
    return jpeg[: len(jpeg) // 3] + b"\xff\xd9"


def _text() -> PngInfo:
    text = PngInfo()
    text.add_text("Comment", "a note")
    return text


def _repair_checksum(png: bytes, kind: int) -> bytes:
    """Return a PNG with the correct checksum for the chunk whose type is at `kind`."""
    (length,) = struct.unpack_from(">I", png, kind - 4)
    end = kind + 4 + length
    return png[:end] + struct.pack(">I", zlib.crc32(png[kind:end])) + png[end + 4 :]


def _shorten_webp(webp: bytes) -> bytes:
    """Return half of a WebP file, with matching sizes in its headers."""
    kept = len(webp) // 4 * 2
    return b"RIFF" + struct.pack("<I", kept - 8) + webp[8:16] + struct.pack("<I", kept - 20) + webp[20:kept]


def _claim_size(jpeg: bytes, width: int, height: int) -> bytes:
    frame = max(jpeg.find(b"\xff\xc0"), jpeg.find(b"\xff\xc2"))
    return jpeg[: frame + 5] + struct.pack(">HH", height, width) + jpeg[frame + 9 :]


@functools.cache
def accepted() -> dict[str, bytes]:
    """Return files that every stage accepts, keyed by name."""
    return _accepted()


@functools.cache
def refused() -> dict[str, bytes]:
    """Return files that every stage rejects, keyed by name."""
    return _refused()
