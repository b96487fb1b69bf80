"""Reads the orientation of an image from EXIF and XMP data.

Decoding applies the EXIF orientation in every format. Like OpenCV and browsers, decoding ignores an orientation that
appears only in XMP data.
"""

from __future__ import annotations

import re
import struct

UPRIGHT, DAMAGED = 1, 0
_ORIENTATIONS = range(1, 9)
_PREFIX = b"Exif\0\0"
_BYTE_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}
_ORIENTATION_TAG, _SHORT, _ENTRY_BYTES = 0x0112, 3, 12
_IN_XMP = re.compile(rb"tiff:Orientation\s*(?:=\s*[\"']|>)\s*([1-8])\s*[\"'<]")


def read_exif_orientation(exif: bytes) -> int:
    """Return the EXIF orientation, 1..8. Return 1 if there is no orientation, and 0 if the data is damaged.

    Only the entries of the first directory are read, so damage elsewhere does not matter.

    Args:
        exif: TIFF data, with or without the prefix "Exif" and two null bytes.
    """
    tiff = exif.removeprefix(_PREFIX)
    if not tiff:
        return UPRIGHT
    order = _BYTE_ORDERS.get(tiff[:4])
    try:
        return DAMAGED if order is None else _find_orientation(tiff, order)
    except struct.error:  # the directory ends early
        return DAMAGED


def read_xmp_orientation(xmp: bytes) -> int:
    """Return the orientation in an XMP packet, or 1 if the packet contains no orientation."""
    found = _IN_XMP.search(xmp)
    return int(found[1]) if found else UPRIGHT


def _find_orientation(tiff: bytes, order: str) -> int:
    (start,) = struct.unpack_from(order + "I", tiff, 4)
    (count,) = struct.unpack_from(order + "H", tiff, start)
    for number in range(count):
        tag, kind, values, orientation, _ = struct.unpack_from(order + "HHIHH", tiff, start + 2 + _ENTRY_BYTES * number)
        if tag == _ORIENTATION_TAG:
            is_valid = kind == _SHORT and values == 1 and orientation in _ORIENTATIONS
            return orientation if is_valid else DAMAGED
    return UPRIGHT
