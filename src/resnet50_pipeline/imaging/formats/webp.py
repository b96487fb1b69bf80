"""Reads the chunks of a WebP file (RFC 9649, section 2).

RIFF, size of the rest (4 bytes), WEBP, then chunks: type (4 letters), length (4 bytes), data padded to an even length
"""

from __future__ import annotations

import struct

from resnet50_pipeline.imaging.formats.container import Container, DamagedImageError
from resnet50_pipeline.imaging.formats.orientation import read_xmp_orientation

_HEADER_BYTES, _CHUNK_HEADER_BYTES = 12, 8


def read_webp(data: bytes) -> Container:
    """Read all chunks.

    Raises:
        DamagedImageError: if the file ends early.
    """
    if len(data) < _HEADER_BYTES:
        raise DamagedImageError("is truncated in its RIFF header")
    (size,) = struct.unpack_from("<I", data, 4)
    # An odd size is invalid, but some encoders do not pad the last chunk.
    end = 8 + size
    if end > len(data):
        raise DamagedImageError(f"is truncated: it has {len(data)} bytes, but its RIFF header says {end}")
    position, frames, exif, hidden = _HEADER_BYTES, 0, b"", 1
    while position + _CHUNK_HEADER_BYTES <= end:
        kind, length = struct.unpack_from("<4sI", data, position)
        start = position + _CHUNK_HEADER_BYTES
        if start + length > end:
            raise DamagedImageError(f"is damaged: its {repr(kind)[2:-1]} chunk extends beyond the end of the image")
        frames += kind == b"ANMF"
        if kind == b"EXIF":
            exif = exif or data[start : start + length]
        elif kind == b"XMP ":
            hidden = read_xmp_orientation(data[start : start + length])
        position = start + length + length % 2
    return Container(min(end + end % 2, len(data)), max(frames, 1), exif=exif, hidden_orientation=hidden)
