"""One image file: what it is, and that no fault of it goes unseen, blocks, or raises."""

import io
import os
import socket
import struct
import tempfile
import time
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from resnet50_pipeline.imagenet.image_files import inspect_image
from resnet50_pipeline.imagenet.inspection import Inspection, inspect_bytes
from resnet50_pipeline.imagenet.jpeg_stream import find_end_of_image


def encode(image: Image.Image, image_format: str = "JPEG", **options: object) -> bytes:
    """Return the bytes of an image file."""
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def noise(mode: str = "RGB", size: tuple[int, int] = (40, 30)) -> Image.Image:
    """Return a picture that does not compress to nothing."""
    channels = {"L": (), "RGB": (3,), "RGBA": (4,), "CMYK": (4,)}[mode]
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], *channels), dtype=np.uint8)
    return Image.frombytes(mode, size, pixels.tobytes())


EXIF = Image.Exif()
EXIF[0x0112] = 6
JPEGS = {
    "baseline": encode(noise()),
    "grey": encode(noise("L")),
    "CMYK": encode(noise("CMYK")),
    "progressive": encode(noise(), progressive=True),
    "restart markers": encode(noise(size=(64, 64)), restart_marker_blocks=1),
    "with EXIF": encode(noise(), exif=EXIF),
}


def put(folder: Path, data: bytes, name: str = "a.JPEG") -> Inspection:
    """Write a file and inspect it."""
    (folder / name).write_bytes(data)
    return inspect_image(folder, name)


@pytest.mark.parametrize("name", JPEGS)
def test_a_whole_jpeg_is_ok(tmp_path: Path, name: str) -> None:
    """JPEG files of every kind are in order, with size, format and mode as they are."""
    found = put(tmp_path, JPEGS[name])
    assert (found.status, found.problem, found.format) == ("ok", "", "JPEG")
    assert found.bytes == len(JPEGS[name])
    assert found.mode == {"grey": "L", "CMYK": "CMYK"}.get(name, "RGB")
    assert (found.width, found.height) == ((64, 64) if name == "restart markers" else (40, 30))
    assert len(found.sha256) == 64


def test_the_format_is_that_of_the_content(tmp_path: Path) -> None:
    """A PNG named .JPEG is a PNG, and in order."""
    found = put(tmp_path, encode(noise("RGBA"), "PNG"))
    assert (found.status, found.format, found.mode) == ("ok", "PNG", "RGBA")


@pytest.mark.parametrize("image_format", ["BMP", "PNG", "TIFF", "WEBP"])
def test_other_formats_that_opencv_decodes_are_ok(image_format: str) -> None:
    """Every format that both Pillow and OpenCV decode is in order."""
    assert inspect_bytes(encode(noise(), image_format)).status == "ok"


def test_a_gif_is_refused() -> None:
    """Pillow decodes a GIF, the OpenCV of training does not: it is not in order."""
    assert inspect_bytes(encode(noise("L"), "GIF")).status == "undecodable"


@pytest.mark.parametrize("name", JPEGS)
@pytest.mark.parametrize("kept", [-1, -2, -10, 0.9, 0.5, 0.1, 4])
def test_a_truncated_jpeg_is_found(tmp_path: Path, name: str, kept: float) -> None:
    """A JPEG that lost its last byte, its end or nearly all is undecodable, whatever OpenCV makes of it."""
    whole = JPEGS[name]
    found = put(tmp_path, whole[: int(len(whole) * kept) if 0 < kept < 1 else int(kept)])
    assert found.status == "undecodable"
    assert "→ replace it" in found.problem


@pytest.mark.parametrize("lost", [1, 2, 10, 50])
def test_an_end_of_zeros_is_found(lost: int) -> None:
    """A JPEG whose last bytes are zeros, as a crash leaves them, is undecodable, though Pillow decodes it."""
    whole = encode(noise(size=(16, 16)), subsampling=0)
    data = whole[:-lost] + bytes(16)
    Image.open(io.BytesIO(data)).load()
    assert "the end-of-image marker is missing" in inspect_bytes(data).problem


def test_a_marker_without_a_length_is_no_segment() -> None:
    """The end is found behind a marker that has neither length nor content (TEM)."""
    whole = JPEGS["baseline"]
    assert find_end_of_image(whole[:2] + b"\xff\x01" + whole[2:]) == len(whole) + 2


@given(name=st.sampled_from(sorted(JPEGS)), data=st.data())
def test_no_beginning_of_a_jpeg_has_its_end(name: str, data) -> None:
    """No end is found in any proper prefix of a JPEG, and its own with anything behind it."""
    whole = JPEGS[name]
    cut = data.draw(st.integers(0, len(whole) - 1))
    assert find_end_of_image(whole[:cut]) == -1
    assert find_end_of_image(whole + data.draw(st.binary(max_size=8))) == len(whole)


def test_the_end_of_a_thumbnail_is_not_the_end_of_the_image() -> None:
    """A JPEG that was cut off behind an embedded thumbnail, which has an end of its own, is truncated."""
    whole, thumbnail = JPEGS["baseline"], JPEGS["grey"]
    segment = b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    with_thumbnail = whole[:2] + segment + whole[2:]
    assert inspect_bytes(with_thumbnail).status == "ok"
    assert with_thumbnail[:-2].count(b"\xff\xd9") == 1
    assert find_end_of_image(with_thumbnail[:-2]) == -1


def test_what_pillow_decodes_and_opencv_does_not_is_undecodable() -> None:
    """A TIFF of 32-bit floats is an image to Pillow, but training, evaluation and serving could not read it."""
    file = io.BytesIO()
    Image.new("F", (16, 16), 0.5).save(file, "TIFF")
    assert inspect_bytes(file.getvalue()).status == "undecodable"


@pytest.mark.parametrize("image_format", ["PNG", "BMP", "WEBP", "TIFF"])
def test_other_truncated_images_are_found(image_format: str) -> None:
    """So are truncated files of the other formats."""
    whole = encode(noise(), image_format)
    assert inspect_bytes(whole[: len(whole) // 2]).status == "undecodable"


@given(st.binary(max_size=200))
def test_no_bytes_make_the_inspection_raise(data: bytes) -> None:
    """Whatever the bytes, also behind a JPEG's or PNG's start, there is a status and no exception."""
    for start in (b"", JPEGS["baseline"][:300], b"\x89PNG\r\n\x1a\n"):
        assert inspect_bytes(start + data).status in ("ok", "undecodable")


def test_zero_bytes_and_web_pages_are_named_as_such(tmp_path: Path) -> None:
    """An empty file and an HTML page under the name of an image say what they are."""
    assert put(tmp_path, b"").problem == "has zero bytes → download or copy it again"
    page = put(tmp_path, b"<!DOCTYPE html>\n<html><body>404</body></html>")
    assert page.status == "undecodable"
    assert page.problem.startswith("is a web page, not an image")
    assert put(tmp_path, b"plain text").problem.startswith("is no image of a known format (begins with b'plain te')")


def _png_of(width: int, height: int) -> bytes:
    """Return a PNG whose black pixels take hardly any bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes((width // 8 + 1) * min(height, 20_000)), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [10_000, 20_000, 60_000])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(side: int) -> None:
    """An image of too many pixels costs neither memory nor time, below and above Pillow's own hard limit."""
    bomb = _png_of(side, side)
    tracemalloc.start()
    start = time.monotonic()
    found = inspect_bytes(bomb)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.status == "undecodable"
    assert "pixels" in found.problem
    assert time.monotonic() - start < 0.5
    assert peak < 20e6


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    """A (sparse) file of a terabyte under the name of an image is refused by its size."""
    with (tmp_path / "a.JPEG").open("wb") as file:
        file.truncate(2**40)
    found = inspect_image(tmp_path, "a.JPEG")
    assert (found.status, found.bytes, found.sha256) == ("undecodable", 2**40, "")


def test_one_flipped_bit_changes_the_digest() -> None:
    """A bit flipped inside the scan may decode; the digest differs."""
    whole = JPEGS["baseline"]
    flipped = bytearray(whole)
    flipped[-40] ^= 1
    assert inspect_bytes(whole).sha256 != inspect_bytes(bytes(flipped)).sha256


def test_exif_orientation_is_reported() -> None:
    """The orientation stands in the record; without EXIF it is 1."""
    assert inspect_bytes(JPEGS["with EXIF"]).exif_orientation == 6
    assert inspect_bytes(JPEGS["baseline"]).exif_orientation == 1


@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12\0\x03\xff\xff\xff\xff",
        b"Exif\0\0neither II nor MM",
        b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x09\0\0\0\0\0\0",
    ],
    ids=["cut off", "no header", "orientation 9"],
)
def test_damaged_exif_data_is_reported_and_no_fault_of_the_image(exif: bytes) -> None:
    """EXIF data that cannot be read gives orientation 0, and the image is still in order."""
    found = inspect_bytes(encode(noise(), exif=exif))
    assert (found.status, found.exif_orientation) == ("ok", 0)


def test_damaged_exif_data_of_a_png_is_reported() -> None:
    """So it is in a PNG, where Pillow raises."""
    text = PngInfo()
    text.add_text("Raw profile type exif", "\nexif\n 2\nzz")
    found = inspect_bytes(encode(noise(), "PNG", pnginfo=text))
    assert (found.status, found.exif_orientation) == ("ok", 0)


# ── what is no file ──


@pytest.mark.timeout(10)
def test_what_is_no_regular_file_is_told_and_never_blocks(tmp_path: Path) -> None:
    """A folder, FIFO, socket or device under the name of an image is named as what it is."""
    (tmp_path / "folder.JPEG").mkdir()
    os.mkfifo(tmp_path / "fifo.JPEG")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s.JPEG"))
        (tmp_path / "zero.JPEG").symlink_to("/dev/zero")
        kinds = {"folder": "a folder", "fifo": "a FIFO", "s": "a socket", "zero": "a device"}
        for name, kind in kinds.items():
            found = inspect_image(tmp_path, f"{name}.JPEG")
            assert found.status == "not_a_file"
            assert found.problem.startswith(f"is {kind} → ")


def test_a_missing_image_is_told(tmp_path: Path) -> None:
    """An image that is not there, or whose folder is a file, is missing."""
    (tmp_path / "file").write_bytes(b"")
    for path in ("n1/a.JPEG", "file/a.JPEG", "x" * 300):
        found = inspect_image(tmp_path, path)
        assert (found.status, found.problem[:10]) == ("missing", "is missing")


def test_broken_links_are_told_with_their_target(tmp_path: Path) -> None:
    """A link into nothing and links in a circle name where they lead."""
    (tmp_path / "a.JPEG").symlink_to("nowhere.JPEG")
    (tmp_path / "b.JPEG").symlink_to("c.JPEG")
    (tmp_path / "c.JPEG").symlink_to("b.JPEG")
    assert inspect_image(tmp_path, "a.JPEG").problem.startswith("is a symbolic link to nowhere.JPEG, which does not")
    assert inspect_image(tmp_path, "b.JPEG").problem.startswith("is a symbolic link to c.JPEG, which leads in a circle")
    assert inspect_image(tmp_path, "b.JPEG").status == "missing"


def test_a_link_out_of_the_root_is_told_with_its_target(tmp_path: Path) -> None:
    """A linked image, and one in a linked folder, that lie outside the root are marked as outside, and not opened."""
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    root.mkdir()
    elsewhere.mkdir()
    (elsewhere / "a.JPEG").write_bytes(JPEGS["baseline"])
    (root / "link.JPEG").symlink_to(elsewhere / "a.JPEG")
    (root / "folder").symlink_to(elsewhere)
    for path in ("link.JPEG", "folder/a.JPEG"):
        found = inspect_image(root, path)
        assert found.status == "outside_root"
        assert f"out of the dataset root, to {elsewhere / 'a.JPEG'} →" in found.problem
        assert (found.format, found.sha256) == ("", "")


def test_a_link_within_the_root_is_fine(tmp_path: Path) -> None:
    """Links that stay below the root are no fault."""
    (tmp_path / "a.JPEG").write_bytes(JPEGS["baseline"])
    (tmp_path / "b.JPEG").symlink_to("a.JPEG")
    assert inspect_image(tmp_path, "b.JPEG").status == "ok"


@pytest.fixture
def as_nobody():
    """The rights of a user who owns nothing, also where root runs the tests."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    yield
    os.seteuid(before)


def test_an_image_that_may_not_be_read_is_told(as_nobody) -> None:
    """A file without read permission, or in a folder that may not be entered, says so."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        put(folder, JPEGS["baseline"])
        (folder / "a.JPEG").chmod(0)
        found = inspect_image(folder, "a.JPEG")
        assert (found.status, found.problem[:35]) == ("not_a_file", "cannot be read: Permission denied →")
        folder.chmod(0)
        found = inspect_image(folder, "a.JPEG")
        folder.chmod(0o700)
        assert (found.status, found.problem[:36]) == ("missing", "cannot be reached: permission denied")
