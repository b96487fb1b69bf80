"""Reads the blocks of a GIF file (GIF89a specification, appendix B)."""

from __future__ import annotations

from resnet50_pipeline.imaging.formats.container import Container, DamagedImageError

_SCREEN_BYTES = 13
_IMAGE, _EXTENSION, _TRAILER = 0x2C, 0x21, 0x3B
_HAS_COLORS, _COLOR_BITS = 0x80, 0x07


def read_gif(data: bytes) -> Container:
    """Read all blocks up to the trailer.

    Raises:
        DamagedImageError: if the file ends early or contains an unknown block.
    """
    try:
        return _read_blocks(data)
    except IndexError:
        raise DamagedImageError("is truncated: the trailer is missing") from None


def _read_blocks(data: bytes) -> Container:
    position, frames = _SCREEN_BYTES + _color_bytes(data[10]), 0
    while True:
        kind = data[position]
        if kind == _TRAILER:
            if not frames:
                raise DamagedImageError("contains no frame")
            return Container(position + 1, frames)
        if kind == _IMAGE:
            frames += 1
            # Position and size, flags, an optional color table, and the code size precede the compressed data.
            position = _skip_sub_blocks(data, position + 11 + _color_bytes(data[position + 9]))
        elif kind == _EXTENSION:
            position = _skip_sub_blocks(data, position + 2)
        else:
            raise DamagedImageError(f"is damaged: it contains an unknown block, 0x{kind:02x}")


def _color_bytes(flags: int) -> int:
    return 3 << ((flags & _COLOR_BITS) + 1) if flags & _HAS_COLORS else 0


def _skip_sub_blocks(data: bytes, position: int) -> int:
    """Return the position after a sequence of length-prefixed blocks, which ends with an empty block."""
    while length := data[position]:
        position += 1 + length
    return position + 1
