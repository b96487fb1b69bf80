"""Detects the format of an image file from its first bytes, never from its name."""

from __future__ import annotations

ACCEPTED = ("JPEG", "PNG", "BMP", "WEBP", "GIF")
"""Formats that every stage accepts."""
TIFF = "TIFF"
"""Accepted only if `dataset.tiff` is true, because TIFF has the most complex decoders."""

_SIGNATURES = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"BM", "BMP"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\0", TIFF),
    (b"MM\0*", TIFF),
    (b"II+\0", "BigTIFF"),
    (b"MM\0+", "BigTIFF"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
    (b"v/1\x01", "OpenEXR"),
    (b"#?RADIANCE", "Radiance HDR"),
    (b"#?RGBE", "Radiance HDR"),
    (b"8BPS", "Photoshop"),
    (b"%PDF", "PDF"),
    (b"\0\0\x01\0", "ICO"),
    (b"\x59\xa6\x6a\x95", "Sun raster"),
    (b"qoif", "QOI"),
    (b"DDS ", "DDS"),
)
_ISO_BRANDS = {b"avif": "AVIF", b"avis": "AVIF"}
_HEIC_BRANDS = frozenset({b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"})
_PNM_KINDS = b"1234567FfH"


def identify_format(data: bytes) -> str:
    """Return the format of an image file: one of `ACCEPTED`, `TIFF`, another well-known name, or "" if unknown."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[4:8] == b"ftyp":
        brand = data[8:12]
        return _ISO_BRANDS.get(brand, "HEIC" if brand in _HEIC_BRANDS else "")
    if data[:1] == b"P" and data[1:2] in _PNM_KINDS and data[2:3].isspace():
        return "PNM"
    return next((name for signature, name in _SIGNATURES if data.startswith(signature)), "")
