"""The fast header parser agrees with Pillow, and no input makes it raise or hang."""

import io
import struct

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from inspections import at_header_level
from resnet50_pipeline.imagenet.scan.inspection import inspect_bytes, inspect_header
from resnet50_pipeline.imaging.decode import decode_image
from resnet50_pipeline.imaging.jpeg_stream import (
    JpegHeader,
    UnsupportedJpegError,
    find_end_of_image,
    read_jpeg_header,
)


def encode(mode: str = "RGB", size: tuple[int, int] = (40, 30), image_format: str = "JPEG", **options: object) -> bytes:
    """Return the bytes of an image of noise."""
    pixels = np.random.default_rng(0).integers(0, 256, size[0] * size[1] * len(mode), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.frombytes(mode, size, pixels.tobytes()).save(buffer, image_format, **options)
    return buffer.getvalue()


def exif(orientation: int) -> Image.Exif:
    """Return EXIF data with an orientation and a description."""
    made = Image.Exif()
    made[0x0112] = orientation
    made[0x010E] = "a description that does not fit in an entry"
    return made


JPEGS = [
    encode(),
    encode("L"),
    encode("CMYK"),
    encode(progressive=True),
    encode(size=(64, 64), restart_marker_blocks=1),
    encode(exif=exif(6)),
    encode(exif=b"Exif\0\0II*\0" + struct.pack("<IHHHIII", 8, 1, 0x0112, 3, 1, 8, 0)),
    encode(comment=b"x" * 300, icc_profile=b"y" * 500),
]


def find_header(data: bytes) -> JpegHeader | None:
    """Return the header of a JPEG, or None if the JPEG is damaged, unsupported or incomplete."""
    try:
        return read_jpeg_header(data)
    except UnsupportedJpegError:
        return None


@pytest.mark.parametrize("data", JPEGS, ids=range(len(JPEGS)))
def test_plain_files_are_read_without_pillow(data: bytes) -> None:
    """The fast parser reads all common kinds of JPEG and agrees with Pillow."""
    header = read_jpeg_header(data)
    with Image.open(io.BytesIO(data)) as image:
        assert (header.mode, header.width, header.height) == (image.mode, *image.size)
        assert header.exif_orientation == image.getexif().get(0x0112, 1)
    assert inspect_header(data) == at_header_level(inspect_bytes(data))


@pytest.mark.parametrize("data", JPEGS, ids=range(len(JPEGS)))
def test_truncation_and_trailing_bytes_are_found(data: bytes) -> None:
    """At the header level, every proper prefix is undecodable, and trailing bytes are counted."""
    for kept in {*range(0, len(data), 97), len(data) - 1, len(data) - 2}:
        assert inspect_header(data[:kept]).status == "undecodable"
    assert inspect_header(data + b"garbage").trailing_bytes == 7
    assert inspect_header(data + b"garbage").status == "ok"
    assert inspect_bytes(data + b"garbage").trailing_bytes == 7


@pytest.mark.parametrize("image_format", ["PNG", "WEBP", "BMP", "GIF"])
def test_other_formats_are_recognized_and_checked_for_truncation(image_format: str) -> None:
    """Formats are detected from the content, and truncated files are undecodable at the header level."""
    data = encode(image_format=image_format)
    assert (inspect_header(data).status, inspect_header(data).format) == ("ok", image_format)
    assert inspect_header(data[:-1]).status == "undecodable"


@given(index=st.integers(0, len(JPEGS) - 1), length=st.integers(0, 2000))
def test_prefix_gives_the_same_header_or_none(index: int, length: int) -> None:
    """The first bytes of a file produce the same header as the entire file, or none."""
    whole = JPEGS[index]
    assert find_header(whole[:length]) in (None, read_jpeg_header(whole))


@settings(max_examples=400, deadline=None)
@given(
    index=st.integers(0, len(JPEGS) - 1),
    changes=st.lists(st.tuples(st.integers(0, 1500), st.binary(min_size=1, max_size=4)), min_size=1, max_size=4),
    removed=st.tuples(st.integers(0, 1500), st.integers(0, 8)),
)
@example(index=5, changes=[(24, b"\xff\xff\xff\xff")], removed=(0, 0))
def test_mutated_files_never_raise_and_agree_with_pillow(
    index: int, changes: list[tuple[int, bytes]], removed: tuple[int, int]
) -> None:
    """A mutated JPEG gets a status at each level. If it decodes, its header matches Pillow's."""
    data = bytearray(JPEGS[index])
    for position, replacement in changes:
        data[position : position + len(replacement)] = replacement
    del data[removed[0] : sum(removed)]
    mutated = bytes(data)
    fast, full = inspect_header(mutated), inspect_bytes(mutated)
    assert {fast.status, full.status} <= {"ok", "undecodable"}
    assert -1 <= find_end_of_image(mutated) <= len(mutated)
    if full.status == "ok":
        assert fast == at_header_level(full)
        with Image.open(io.BytesIO(mutated)) as image:
            assert (full.mode, full.width, full.height) == (image.mode, *image.size)


@given(st.binary(max_size=300), st.sampled_from([b"", b"\xff\xd8", b"\xff\xd8\xff\xe1\0\x40Exif\0\0II*\0"]))
def test_arbitrary_bytes_never_make_the_parser_raise(data: bytes, start: bytes) -> None:
    """Arbitrary bytes give a header or None, never an exception."""
    header = find_header(start + data)
    assert header is None or header.width > 0
    assert inspect_header(start + data).status in ("ok", "undecodable")


@given(
    st.sampled_from("<>"),
    st.lists(
        st.tuples(
            st.sampled_from([0x0112, 0x010E, 0x8769]), st.integers(0, 14), st.integers(0, 9), st.integers(0, 2**20)
        ),
        max_size=4,
    ),
)
def test_exif_entries_give_an_orientation_that_decoding_applies(
    order: str, entries: list[tuple[int, int, int, int]]
) -> None:
    """Random EXIF entries give an orientation from 0 to 8, and orientations 5 to 8 swap width and height."""
    tiff = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, len(entries))
    tiff += b"".join(struct.pack(order + "HHII", *entry) for entry in entries) + bytes(64)
    data = encode(exif=b"Exif\0\0" + tiff)
    orientation = inspect_header(data).exif_orientation
    assert orientation == inspect_bytes(data).exif_orientation
    assert decode_image(data).shape == ((40, 30, 3) if orientation >= 5 else (30, 40, 3))
