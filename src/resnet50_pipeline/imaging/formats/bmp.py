"""Finds the end of a BMP file from its headers (BITMAPFILEHEADER, and BITMAPCOREHEADER or BITMAPINFOHEADER)."""

from __future__ import annotations

import struct

from resnet50_pipeline.imaging.formats.container import Container, DamagedImageError

_FILE_HEADER_BYTES, _CORE_HEADER_BYTES, _INFO_HEADER_BYTES = 14, 12, 40
_UNCOMPRESSED, _BIT_FIELDS = 0, 3


def read_bmp(data: bytes) -> Container:
    """Find the end of the image.

    Raises:
        DamagedImageError: if the file ends before its last row of pixels.
    """
    try:
        end = _find_end(data)
    except struct.error:
        raise DamagedImageError("is truncated in its header") from None
    if end > len(data):
        raise DamagedImageError(f"is truncated: it has {len(data)} bytes, but its header says {end}")
    return Container(end)


def _find_end(data: bytes) -> int:
    file_bytes, offset, header_bytes = struct.unpack_from("<2xI4xII", data)
    if header_bytes == _CORE_HEADER_BYTES:
        width, height, bits = struct.unpack_from("<HH2xH", data, _FILE_HEADER_BYTES + 4)
        compression = stored = 0
    elif header_bytes >= _INFO_HEADER_BYTES:
        width, height, bits, compression, stored = struct.unpack_from("<ii2xHII", data, _FILE_HEADER_BYTES + 4)
    else:
        raise DamagedImageError(f"is damaged: its header has {header_bytes} bytes")
    if compression in (_UNCOMPRESSED, _BIT_FIELDS):
        stored = (width * bits + 31) // 32 * 4 * abs(height)
    elif not stored:
        return len(data)  # only decoding the run lengths would reveal the end
    end: int = offset + stored
    # The size in the file header includes any padding that a program has appended, but this size is often wrong.
    return max(end, file_bytes if file_bytes <= len(data) else 0)
