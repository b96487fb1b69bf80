"""Defines the result and the exception of the image file readers."""

from __future__ import annotations

from typing import NamedTuple


class DamagedImageError(Exception):
    """The file is truncated or inconsistent. The message completes a sentence that begins with the file name."""


class Container(NamedTuple):
    """The structure of an image file.

    Attributes:
        end: position after the last byte of the image.
        frames: number of frames; decoding returns only the first frame.
        bits: bits per channel.
        exif: TIFF data with the EXIF tags; empty if there are none.
        hidden_orientation: orientation 1..8 from XMP data or a text chunk, which decoding does not apply.
        essential: bytes to decode; empty if the entire file should be decoded.
    """

    end: int
    frames: int = 1
    bits: int = 8
    exif: bytes = b""
    hidden_orientation: int = 1
    essential: bytes = b""
