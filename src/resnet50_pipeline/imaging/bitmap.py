"""Pixels as an uncompressed picture that anybody can open, and whose bytes are the pixels: BMP, 24 bits, top row first.

    BM, 54 bytes of header, then rows from the top: blue, green, red a pixel, each row filled up to 4 bytes

It is what OpenCV decodes an image to, channel order included, so that reading one is no more than pointing at it.
"""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

# BITMAPFILEHEADER (type, size, two reserved words, offset of the pixels) and BITMAPINFOHEADER (its own size, width,
# height, planes, bits a pixel, compression, size of the pixels, two resolutions, two counts of colours).
_HEADER = struct.Struct("<2sIHHI IiiHHIIiiII")
_MAGIC, _INFO_BYTES, _PLANES, _BITS, _UNCOMPRESSED = b"BM", 40, 1, 24, 0


def encode_bitmap(pixels: NDArray[np.uint8]) -> bytes:
    """Return the bytes of a BMP file.

    Args:
        pixels: uint8 [height, width, 3], channels blue, green, red.
    """
    height, width = pixels.shape[:2]
    rows = np.zeros((height, _row_bytes(width)), dtype=np.uint8)
    rows[:, : width * 3] = pixels.reshape(height, width * 3)
    sizes = (_HEADER.size + rows.size, 0, 0, _HEADER.size)
    # A negative height says that the top row comes first.
    header = _HEADER.pack(
        _MAGIC, *sizes, _INFO_BYTES, width, -height, _PLANES, _BITS, _UNCOMPRESSED, rows.size, 0, 0, 0, 0
    )
    return header + rows.tobytes()


def view_bitmap(data: bytes) -> NDArray[np.uint8] | None:
    """Return the pixels of a BMP file that `encode_bitmap` wrote, without copying them; None for any other bytes.

    Returns:
        uint8 [height, width, 3], channels blue, green, red; cannot be written to.
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
    """Return the pixels of rows that are filled up."""
    return np.lib.stride_tricks.as_strided(rows, (rows.shape[0], width, 3), (rows.shape[1], 3, 1), writeable=False)


def _row_bytes(width: int) -> int:
    return (width * 3 + 3) // 4 * 4
