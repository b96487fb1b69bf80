"""Encodes pixels as a 24-bit BMP with the top row first, and reads such a file without copying.

    54-byte header, starting with BM
    rows from top to bottom: blue, green, red for each pixel; each row padded to 4 bytes

Any image viewer can open the file. The pixels are laid out like OpenCV's decoded images, so reading only creates a
view.
"""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

# BITMAPFILEHEADER (type, file size, two reserved words, pixel offset) and BITMAPINFOHEADER (header size, width, height,
# planes, bits per pixel, compression, pixel bytes, two resolutions, two color counts).
_HEADER = struct.Struct("<2sIHHI IiiHHIIiiII")
_MAGIC, _INFO_BYTES, _PLANES, _BITS, _UNCOMPRESSED = b"BM", 40, 1, 24, 0


def encode_bitmap(pixels: NDArray[np.uint8]) -> bytes:
    """Encode pixels as a BMP file.

    Args:
        pixels: uint8 [height, width, 3], channels blue, green, red.
    """
    height, width = pixels.shape[:2]
    rows = np.zeros((height, _row_bytes(width)), dtype=np.uint8)
    rows[:, : width * 3] = pixels.reshape(height, width * 3)
    sizes = (_HEADER.size + rows.size, 0, 0, _HEADER.size)
    # A negative height means that the top row comes first.
    header = _HEADER.pack(
        _MAGIC, *sizes, _INFO_BYTES, width, -height, _PLANES, _BITS, _UNCOMPRESSED, rows.size, 0, 0, 0, 0
    )
    return header + rows.tobytes()


def view_bitmap(data: bytes) -> NDArray[np.uint8] | None:
    """Return a view of the pixels in a BMP file from `encode_bitmap`, or None for any other data.

    Returns:
        Read-only uint8 [height, width, 3], channels blue, green, red.
    """
    if not data.startswith(_MAGIC) or len(data) < _HEADER.size:
        return None
    _, _, _, _, offset, info, width, height, planes, bits, compression, *_ = _HEADER.unpack_from(data)
    if (offset, info, planes, bits, compression) != (_HEADER.size, _INFO_BYTES, _PLANES, _BITS, _UNCOMPRESSED):
        return None
    row_bytes = _row_bytes(width)
    if width < 1 or height > -1 or len(data) != offset - height * row_bytes:
        return None
    rows = np.frombuffer(data, dtype=np.uint8, offset=offset).reshape(-height, row_bytes)
    return rows[:, : width * 3].reshape(-height, width, 3) if row_bytes == width * 3 else _view(rows, width)


def _view(rows: NDArray[np.uint8], width: int) -> NDArray[np.uint8]:
    """Return a view of the pixels in padded rows, without the padding."""
    return np.lib.stride_tricks.as_strided(rows, (rows.shape[0], width, 3), (rows.shape[1], 3, 1), writeable=False)


def _row_bytes(width: int) -> int:
    return (width * 3 + 3) // 4 * 4
