"""Reads the header and finds the end of a JPEG by its markers (ITU-T T.81, annex B), without decoding it."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable
from typing import NamedTuple

from resnet50_pipeline.imaging.formats.orientation import UPRIGHT, read_exif_orientation, read_xmp_orientation

END_OF_IMAGE = b"\xff\xd9"

# The pattern starts with a literal byte, which `re` finds ten times as fast as a repetition. If fill bytes (FF) precede
# a marker, the match starts at the last of these bytes.
_MARKER_IN_SCAN = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]", re.DOTALL)
_END, _START_OF_SCAN, _APP1 = 0xD9, 0xDA, 0xE1
_STANDALONE_MARKERS = frozenset({0x01, *range(0xD0, 0xD8)})
# Baseline, extended and progressive frames with Huffman coding, which every decoder supports.
_FRAMES = frozenset({0xC0, 0xC1, 0xC2})
_RARE_FRAMES = {
    0xC3: "lossless",
    0xC5: "hierarchical",
    0xC6: "hierarchical",
    0xC7: "lossless hierarchical",
    0xC9: "arithmetic-coded",
    0xCA: "arithmetic-coded",
    0xCB: "lossless arithmetic-coded",
    0xCD: "hierarchical arithmetic-coded",
    0xCE: "hierarchical arithmetic-coded",
    0xCF: "lossless hierarchical arithmetic-coded",
    0xF7: "JPEG-LS",
}
_COEFFICIENTS, _UNSENT = 64, 99
_MODES = {1: "L", 3: "RGB", 4: "CMYK"}
_SEGMENT = struct.Struct(">BH")
_FRAME = struct.Struct(">BHHB")
_EXIF, _XMP = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"


class UnsupportedJpegError(Exception):
    """The header is damaged (`is_damaged`), or this kind of JPEG is not supported."""

    def __init__(self, message: str, *, is_damaged: bool = True) -> None:
        super().__init__(message)
        self.is_damaged = is_damaged


class JpegHeader(NamedTuple):
    """Header of a JPEG.

    Attributes:
        mode: Pillow's mode: L, RGB or CMYK.
        width: stored width in pixels, before the EXIF orientation is applied.
        height: stored height in pixels, before the EXIF orientation is applied.
        exif_orientation: 1..8 as defined by EXIF; 1 if the file has none, 0 if the EXIF data is damaged.
        xmp_orientation: 1..8 from XMP data, which decoding does not apply; 1 if the file has none.
        has_one_scan: whether the first scan contains the entire image.
        components: identifiers of the channels.
    """

    mode: str
    width: int
    height: int
    exif_orientation: int = UPRIGHT
    xmp_orientation: int = UPRIGHT
    has_one_scan: bool = True
    components: bytes = b""

    @property
    def is_plain(self) -> bool:
        """True for three channels without an EXIF rotation."""
        return self.mode == "RGB" and self.exif_orientation <= UPRIGHT


class Scan(NamedTuple):
    """A scan header, which describes the coefficients in a scan.

    Attributes:
        components: identifiers of the channels.
        first: index of the first coefficient, 0..63.
        last: index of the last coefficient, 0..63.
        missing_bits: number of low bits of each coefficient that only later scans contain.
    """

    components: bytes = b""
    first: int = 0
    last: int = -1
    missing_bits: int = 0


def read_jpeg_header(data: bytes) -> JpegHeader:
    """Return the header, up to the start of the first scan.

    Args:
        data: the first bytes of the file, or the entire file.

    Raises:
        UnsupportedJpegError: if the header is damaged or extends beyond `data`, or this kind of JPEG is not supported.
    """
    try:
        return _read_header(data)
    except (struct.error, IndexError):
        raise UnsupportedJpegError("is truncated in its header") from None


def find_end_of_image(data: bytes) -> int:
    """Return the position after the end-of-image marker, or -1 if the JPEG is truncated.

    Segments are skipped, because an embedded thumbnail also contains an end-of-image marker.
    """
    return _walk(data)[0]


def read_scans(data: bytes) -> list[Scan]:
    """Return the scans of a JPEG. The JPEG may be truncated."""
    return [_read_scan(data, position) for position in _walk(data)[1]]


def are_complete(components: bytes, scans: Iterable[Scan]) -> bool:
    """Return whether the scans contain every bit of every coefficient.

    libjpeg does not warn about missing scans. Without them, the image is blurred or has no colors.
    """
    # Number of low bits still missing. A progressive JPEG stores the high bits of a coefficient first.
    missing = {component: [_UNSENT] * _COEFFICIENTS for component in components}
    for scan in scans:
        for component in scan.components:
            for coefficient in range(scan.first, min(scan.last + 1, _COEFFICIENTS)):
                missing.get(component, [_UNSENT] * _COEFFICIENTS)[coefficient] = scan.missing_bits
    return not any(any(bits) for bits in missing.values())


def _read_scan(data: bytes, position: int) -> Scan:
    """Read a scan header, starting at the number of components."""
    count = data[position] if position < len(data) else 0
    components = data[position + 1 : position + 1 + 2 * count : 2]
    spectrum = data[position + 1 + 2 * count : position + 4 + 2 * count]
    return Scan(components, spectrum[0], spectrum[1], spectrum[2] & 0x0F) if len(spectrum) == 3 else Scan()


def _walk(data: bytes) -> tuple[int, list[int]]:
    """Return the end of the image (-1 if it is missing) and the positions of the scan headers."""
    position = 2
    scans: list[int] = []
    while True:
        position = data.find(b"\xff", position)
        while position != -1 and data[position : position + 1] == b"\xff":
            position += 1
        if position == -1 or position >= len(data):
            return -1, scans
        marker = data[position]
        position += 1
        if marker == _END:
            return position, scans
        if marker in _STANDALONE_MARKERS:
            continue
        if marker == _START_OF_SCAN:
            scans.append(position + 2)
        position += int.from_bytes(data[position : position + 2], "big")
        if marker == _START_OF_SCAN:
            # Inside a scan, FF 00 is a data byte and FF D0..D7 are restart markers.
            next_marker = _MARKER_IN_SCAN.search(data, position)
            if next_marker is None:
                return -1, scans
            position = next_marker.start()


def _read_header(data: bytes) -> JpegHeader:
    position, frame = 2, JpegHeader("", 0, 0)
    exif = xmp = b""
    is_progressive = False
    while True:
        is_marker = data[position] == 0xFF
        while data[position + 1] == 0xFF:  # fill bytes may precede a marker
            position += 1
        marker, length = _SEGMENT.unpack_from(data, position + 1)
        start, following = position + 4, position + 2 + length
        if not is_marker or length < 2:
            raise UnsupportedJpegError(f"is damaged: byte {position} is not the start of a segment")
        if following > len(data):
            raise UnsupportedJpegError("is truncated in its header")
        if marker in _FRAMES:
            if frame.components:
                raise UnsupportedJpegError("is damaged: it has two frame headers")
            frame = _read_frame(data, start, length)
            is_progressive = marker == 0xC2
        elif marker in _RARE_FRAMES:
            raise UnsupportedJpegError(f"is an unsupported kind of JPEG ({_RARE_FRAMES[marker]})", is_damaged=False)
        elif marker == _APP1:
            exif = exif or (data[start:following] if data.startswith(_EXIF, start) else b"")
            xmp = xmp or (data[start:following] if data.startswith(_XMP, start) else b"")
        elif marker == _START_OF_SCAN:
            if not frame.components:
                raise UnsupportedJpegError("is damaged: a scan precedes the frame header")
            return frame._replace(
                exif_orientation=read_exif_orientation(exif) if exif else UPRIGHT,
                xmp_orientation=read_xmp_orientation(xmp) if xmp else UPRIGHT,
                has_one_scan=not is_progressive and data[start] == len(frame.components),
            )
        elif marker in _STANDALONE_MARKERS or marker in (0xD8, _END):
            raise UnsupportedJpegError(f"is damaged: unexpected marker 0xff{marker:02x} in the header")
        position = following


def _read_frame(data: bytes, start: int, length: int) -> JpegHeader:
    precision, height, width, components = _FRAME.unpack_from(data, start)
    if precision != 8:
        raise UnsupportedJpegError(f"is an unsupported kind of JPEG ({precision} bits per channel)", is_damaged=False)
    if components not in _MODES:
        raise UnsupportedJpegError(f"is an unsupported kind of JPEG ({components} channels)", is_damaged=False)
    if not height or not width or length != 8 + 3 * components:
        raise UnsupportedJpegError("is damaged: its frame header is invalid")
    identifiers = data[start + 6 : start + 6 + 3 * components : 3]
    return JpegHeader(_MODES[components], width, height, components=identifiers)
