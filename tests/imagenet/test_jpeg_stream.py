"""The fast header parser: what it says, Pillow says too, and no bytes make it raise or hang."""

import io
import struct

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from resnet50_pipeline.imagenet.inspection import Inspection, _inspect_whole, inspect_bytes, inspect_header
from resnet50_pipeline.imagenet.jpeg_stream import find_end_of_image, read_jpeg_header


def encode(mode: str = "RGB", size: tuple[int, int] = (40, 30), image_format: str = "JPEG", **options: object) -> bytes:
    """Return the bytes of an image of noise."""
    pixels = np.random.default_rng(0).integers(0, 256, size[0] * size[1] * len(mode), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.frombytes(mode, size, pixels.tobytes()).save(buffer, image_format, **options)
    return buffer.getvalue()


def exif(orientation: int) -> Image.Exif:
    """Return EXIF data with an orientation and a text."""
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


def inspect_closely(data: bytes) -> Inspection:
    """Return what level header finds without the fast parser."""
    return _inspect_whole(data, Inspection(bytes=len(data)), is_decoded=False)


@pytest.mark.parametrize("data", JPEGS, ids=range(len(JPEGS)))
def test_plain_files_are_read_without_pillow(data: bytes) -> None:
    """The fast parser reads all usual kinds, and says what Pillow says."""
    header = read_jpeg_header(data)
    assert header is not None
    with Image.open(io.BytesIO(data)) as image:
        assert (header.mode, header.width, header.height) == (image.mode, *image.size)
        assert header.exif_orientation == image.getexif().get(0x0112, 1)
    assert inspect_header(data) == inspect_closely(data) == inspect_bytes(data)._replace(sha256="")


@pytest.mark.parametrize("data", JPEGS, ids=range(len(JPEGS)))
def test_truncation_and_trailing_garbage_are_seen(data: bytes) -> None:
    """Every proper prefix is undecodable at level header; bytes behind the end are counted."""
    for kept in {*range(0, len(data), 97), len(data) - 1, len(data) - 2}:
        assert inspect_header(data[:kept]).status == "undecodable"
    assert inspect_header(data + b"garbage").trailing_bytes == 7
    assert inspect_header(data + b"garbage").status == "ok"
    assert inspect_bytes(data + b"garbage").trailing_bytes == 7


@pytest.mark.parametrize(("image_format", "is_told"), [("PNG", True), ("WEBP", True), ("BMP", False), ("TIFF", False)])
def test_other_formats_are_named_and_their_ends_looked_for(image_format: str, is_told: bool) -> None:
    """Formats go by content; PNG and WebP say where they end, so that level header sees that they were cut off."""
    data = encode(image_format=image_format)
    assert (inspect_header(data).status, inspect_header(data).format) == ("ok", image_format)
    if is_told:
        assert inspect_header(data[:-1]).status == "undecodable"


@given(index=st.integers(0, len(JPEGS) - 1), length=st.integers(0, 2000))
def test_a_beginning_gives_the_header_or_nothing(index: int, length: int) -> None:
    """Of a file's first bytes, the header is that of the whole file, or there is none."""
    whole = JPEGS[index]
    assert read_jpeg_header(whole[:length]) in (None, read_jpeg_header(whole))


@settings(max_examples=400, deadline=None)
@given(
    index=st.integers(0, len(JPEGS) - 1),
    changes=st.lists(st.tuples(st.integers(0, 1500), st.binary(min_size=1, max_size=4)), min_size=1, max_size=4),
    removed=st.tuples(st.integers(0, 1500), st.integers(0, 8)),
)
@example(index=5, changes=[(24, b"\xff\xff\xff\xff")], removed=(0, 0))
def test_mutated_files_never_raise_and_never_get_another_size_than_pillows(
    index: int, changes: list[tuple[int, bytes]], removed: tuple[int, int]
) -> None:
    """Whatever is changed in a JPEG, there is a verdict at each level, and the parser agrees with Pillow."""
    data = bytearray(JPEGS[index])
    for position, replacement in changes:
        data[position : position + len(replacement)] = replacement
    del data[removed[0] : sum(removed)]
    mutated = bytes(data)
    fast, close = inspect_header(mutated), inspect_closely(mutated)
    assert fast.status in ("ok", "undecodable")
    assert inspect_bytes(mutated).status in ("ok", "undecodable")
    assert -1 <= find_end_of_image(mutated) <= len(mutated)
    if fast.status == close.status == "ok":
        assert fast[1:5] == close[1:5]


@given(st.binary(max_size=300), st.sampled_from([b"", b"\xff\xd8", b"\xff\xd8\xff\xe1\0\x40Exif\0\0II*\0"]))
def test_no_bytes_make_the_parser_raise(data: bytes, start: bytes) -> None:
    """Whatever the bytes, there is a header or none."""
    header = read_jpeg_header(start + data)
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
def test_exif_entries_are_read_as_pillow_reads_them(order: str, entries: list[tuple[int, int, int, int]]) -> None:
    """Made-up EXIF entries give the orientation that Pillow gives, or a closer look with Pillow itself."""
    tiff = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, len(entries))
    tiff += b"".join(struct.pack(order + "HHII", *entry) for entry in entries) + bytes(64)
    data = encode(exif=b"Exif\0\0" + tiff)
    assert inspect_header(data).exif_orientation == inspect_closely(data).exif_orientation
