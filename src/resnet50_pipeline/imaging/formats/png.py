"""Reads the chunks of a PNG file (W3C PNG specification, section 5).

8 bytes of signature, then chunks: length (4 bytes), type (4 letters), data, CRC-32 of type and data (4 bytes)
"""

from __future__ import annotations

import binascii
import struct
import zlib

from resnet50_pipeline.imaging.formats.container import Container, DamagedImageError
from resnet50_pipeline.imaging.formats.orientation import UPRIGHT, read_exif_orientation, read_xmp_orientation

_SIGNATURE_BYTES, _CHUNK_OVERHEAD = 8, 12
# The chunks that the pixels depend on. OpenCV and this project ignore transparency, color profiles and gamma.
_ESSENTIAL = frozenset({b"IHDR", b"PLTE", b"IDAT", b"IEND"})
_XMP_KEYWORD, _RAW_EXIF_KEYWORD = b"XML:com.adobe.xmp\0", b"Raw profile type exif\0"
_HEADER_BYTES = 13


def read_png(data: bytes) -> Container:
    """Read all chunks up to IEND and check their lengths and checksums.

    Raises:
        DamagedImageError: if the file ends early or a checksum is wrong.
    """
    position, chunks, is_pure = _SIGNATURE_BYTES, [data[:_SIGNATURE_BYTES]], True
    bits = frames = hidden = 1
    exif = b""
    while True:
        if position + _CHUNK_OVERHEAD > len(data):
            raise DamagedImageError("is truncated: the IEND chunk is missing")
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + _CHUNK_OVERHEAD + length
        if end > len(data):
            raise DamagedImageError(f"is truncated in its {_show(kind)} chunk")
        _require_checksum(data, position, end, kind)
        content = slice(position + 8, end - 4)
        if kind in _ESSENTIAL:
            chunks.append(data[position:end])
        else:
            is_pure = False
        if kind == b"IHDR":
            if length != _HEADER_BYTES:
                raise DamagedImageError(f"has an IHDR chunk of {length} bytes instead of {_HEADER_BYTES}")
            bits = data[position + 16]
        elif kind == b"acTL" and length >= 4:
            (frames,) = struct.unpack_from(">I", data, position + 8)
        elif kind == b"eXIf":
            exif = exif or data[content]
        elif kind in (b"iTXt", b"zTXt", b"tEXt"):
            hidden = max(hidden, _read_hidden_orientation(kind, data[content]))
        elif kind == b"IEND":
            return Container(end, max(frames, 1), bits, exif, hidden, b"" if is_pure else b"".join(chunks))
        position = end


def _require_checksum(data: bytes, start: int, end: int, kind: bytes) -> None:
    (expected,) = struct.unpack_from(">I", data, end - 4)
    if zlib.crc32(memoryview(data)[start + 4 : end - 4]) != expected:
        raise DamagedImageError(f"is damaged: the checksum of its {_show(kind)} chunk is wrong")


def _read_hidden_orientation(kind: bytes, content: bytes) -> int:
    """Return the orientation in XMP data, or in the EXIF data that ImageMagick writes as hexadecimal text."""
    if kind == b"iTXt" and content.startswith(_XMP_KEYWORD):
        return read_xmp_orientation(content)
    if content.startswith(_RAW_EXIF_KEYWORD):
        text = content[len(_RAW_EXIF_KEYWORD) :]
        try:
            if kind == b"zTXt":
                text = zlib.decompressobj().decompress(text[1:], 1 << 20)
            # Three header lines (empty, name, length), then hexadecimal digits.
            return read_exif_orientation(binascii.unhexlify(b"".join(text.split(b"\n")[3:]))) or UPRIGHT
        except (zlib.error, binascii.Error):
            return UPRIGHT
    return UPRIGHT


def _show(kind: bytes) -> str:
    return repr(kind)[2:-1]
