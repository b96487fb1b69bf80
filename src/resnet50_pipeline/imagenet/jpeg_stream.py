"""What a JPEG file says of itself without being decoded: its marker chain (ITU-T T.81, annex B), read fast."""

from __future__ import annotations

import re
import struct
from typing import NamedTuple

END_OF_IMAGE = b"\xff\xd9"

# Begins with one literal byte, which `re` looks for ten times as fast as for a repetition; so of the fill bytes (FF)
# in front of a marker it takes the last.
_MARKER_IN_SCAN = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]", re.DOTALL)
_END, _START_OF_SCAN, _EXIF_SEGMENT = 0xD9, 0xDA, 0xE1
_STANDALONE_MARKERS = frozenset({0x01, *range(0xD0, 0xD8)})
# Baseline, extended and progressive, Huffman-coded: what Pillow and OpenCV both decode.
_FRAMES = frozenset({0xC0, 0xC1, 0xC2})
# Tables, application data and comments, which may stand before the frame and the scan.
_SKIPPED = frozenset({0xC4, 0xDB, 0xDD, 0xFE, 0xE0, *range(0xE2, 0xF0)})
_MODES = {1: "L", 3: "RGB", 4: "CMYK"}
_SEGMENT = struct.Struct(">BBH")
_FRAME = struct.Struct(">BHHB")
_BYTE_ORDERS = {b"Exif\0\0II*\0": "<", b"Exif\0\0MM\0*": ">"}
_ORIENTATION_TAG, _SHORT = 0x0112, 3
_TIFF_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}


class JpegHeader(NamedTuple):
    """What stands before the first scan.

    Attributes:
        mode: L, RGB or CMYK, as Pillow names them.
        width: pixels as stored, before any EXIF rotation.
        height: the same.
        exif_orientation: 1..8 as EXIF defines it, 1 where there is none.
    """

    mode: str
    width: int
    height: int
    exif_orientation: int


def read_jpeg_header(data: bytes) -> JpegHeader | None:
    """Return the header of a JPEG if it is of the plain kind that nearly all files are, None otherwise.

    None does not mean that something is wrong: a rarer kind of JPEG, EXIF data out of the ordinary, or a scan that
    starts behind the end of `data`. Whoever gets it looks closer, with Pillow. What is returned, Pillow says too.

    Args:
        data: the first bytes of the file, or all of it.
    """
    try:
        return _read_header(data)
    except (_UnusualError, struct.error, IndexError):
        return None


def find_end_of_image(data: bytes) -> int:
    """Return the position behind the end-of-image marker of a JPEG stream, -1 where it does not reach one.

    The segments are walked, for the two bytes of the marker also stand in an embedded thumbnail.
    """
    position = 2
    while True:
        position = data.find(b"\xff", position)
        while position != -1 and data[position : position + 1] == b"\xff":
            position += 1
        if position == -1 or position >= len(data):
            return -1
        marker = data[position]
        position += 1
        if marker == _END:
            return position
        if marker in _STANDALONE_MARKERS:
            continue
        position += int.from_bytes(data[position : position + 2], "big")
        if marker == _START_OF_SCAN:
            # Inside a scan, FF 00 is a byte of data and FF D0..D7 are restart markers.
            next_marker = _MARKER_IN_SCAN.search(data, position)
            if next_marker is None:
                return -1
            position = next_marker.start()


class _UnusualError(Exception):
    """The file needs a closer look."""


def _read_header(data: bytes) -> JpegHeader:
    if data[:2] != b"\xff\xd8":
        raise _UnusualError
    width = height = orientation = 0
    mode = ""
    position = 2
    while True:
        prefix, marker, length = _SEGMENT.unpack_from(data, position)
        following = position + 2 + length
        if prefix != 0xFF or length < 2:
            raise _UnusualError
        if marker in _FRAMES and not mode:
            precision, height, width, components = _FRAME.unpack_from(data, position + 4)
            mode = _MODES.get(components, "")
            if precision != 8 or not mode or not height or not width or length != 8 + 3 * components:
                raise _UnusualError
        elif marker == _START_OF_SCAN and mode and following <= len(data):
            return JpegHeader(mode, width, height, orientation or 1)
        elif marker == _EXIF_SEGMENT and not orientation and following <= len(data):
            orientation = _read_orientation(data[position + 4 : following])
        elif marker not in _SKIPPED:
            raise _UnusualError
        position = following


def _read_orientation(segment: bytes) -> int:
    """Return the orientation that an EXIF segment gives, 1 where it gives none."""
    order = _BYTE_ORDERS.get(segment[:10], "")
    if not order:
        raise _UnusualError
    tiff = segment[6:]
    (start,) = struct.unpack_from(order + "I", tiff, 4)
    (count,) = struct.unpack_from(order + "H", tiff, start)
    orientation = 1
    for number in range(count):
        tag, kind, values, content = struct.unpack_from(order + "HHII", tiff, start + 2 + 12 * number)
        size = _TIFF_TYPE_BYTES.get(kind, 0) * values
        if not size or (size > 4 and content + size > len(tiff)):
            raise _UnusualError
        if tag == _ORIENTATION_TAG:
            orientation = content & 0xFFFF if order == "<" else content >> 16
            if kind != _SHORT or values != 1 or not 1 <= orientation <= 8:
                raise _UnusualError
    return orientation
