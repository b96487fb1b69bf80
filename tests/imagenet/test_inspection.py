"""The inspection of one image file finds every problem and never blocks or raises."""

import io
import os
import socket
import struct
import tempfile
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from resnet50_pipeline.imagenet.scan.image_files import inspect_image
from resnet50_pipeline.imagenet.scan.inspection import Inspection, inspect_bytes
from resnet50_pipeline.imaging.jpeg_stream import find_end_of_image


def encode(image: Image.Image, image_format: str = "JPEG", **options: object) -> bytes:
    """Return the bytes of an image file."""
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def noise(mode: str = "RGB", size: tuple[int, int] = (40, 30)) -> Image.Image:
    """Return a noise image, which does not compress well."""
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


def write_and_inspect(folder: Path, data: bytes, name: str = "a.JPEG") -> Inspection:
    """Write a file and inspect it."""
    (folder / name).write_bytes(data)
    return inspect_image(folder, name)


@pytest.mark.parametrize("name", JPEGS)
def test_complete_jpeg_is_accepted(tmp_path: Path, name: str) -> None:
    """JPEG files of every kind are accepted, and their size, format and mode are recorded."""
    found = write_and_inspect(tmp_path, JPEGS[name])
    assert (found.status, found.problem, found.format) == ("ok", "", "JPEG")
    assert found.bytes == len(JPEGS[name])
    assert found.mode == {"grey": "L", "CMYK": "CMYK"}.get(name, "RGB")
    assert (found.width, found.height) == ((64, 64) if name == "restart markers" else (40, 30))
    assert len(found.sha256) == 64


def test_format_is_detected_from_the_content(tmp_path: Path) -> None:
    """A PNG named .JPEG is accepted as a PNG."""
    found = write_and_inspect(tmp_path, encode(noise("RGBA"), "PNG"))
    assert (found.status, found.format, found.mode) == ("ok", "PNG", "RGBA")


@pytest.mark.parametrize("image_format", ["BMP", "PNG", "GIF", "WEBP"])
def test_other_accepted_formats_are_ok(image_format: str) -> None:
    """Every format that training decodes is accepted."""
    found = inspect_bytes(encode(noise("L"), image_format))
    assert (found.status, found.format) == ("ok", image_format)


@pytest.mark.parametrize("name", JPEGS)
@pytest.mark.parametrize("kept", [-1, -2, -10, 0.9, 0.5, 0.1, 4])
def test_a_truncated_jpeg_is_found(tmp_path: Path, name: str, kept: float) -> None:
    """A JPEG without its last byte, its end or most of its content is undecodable, even if OpenCV accepts it."""
    whole = JPEGS[name]
    found = write_and_inspect(tmp_path, whole[: int(len(whole) * kept) if 0 < kept < 1 else int(kept)])
    assert found.status == "undecodable"
    assert "→" in found.problem


@pytest.mark.parametrize("lost", [1, 2, 10, 50])
def test_jpeg_that_ends_in_zeros_is_found(lost: int) -> None:
    """A JPEG with zeros instead of its last bytes is undecodable, although Pillow accepts it."""
    whole = encode(noise(size=(16, 16)), subsampling=0)
    data = whole[:-lost] + bytes(16)
    Image.open(io.BytesIO(data)).load()
    assert inspect_bytes(data).status == "undecodable"


def test_a_marker_without_a_length_is_not_a_segment() -> None:
    """The end is found after a marker that has no length or content (TEM)."""
    whole = JPEGS["baseline"]
    assert find_end_of_image(whole[:2] + b"\xff\x01" + whole[2:]) == len(whole) + 2


@given(name=st.sampled_from(sorted(JPEGS)), data=st.data())
def test_no_prefix_of_a_jpeg_has_an_end(name: str, data) -> None:
    """No end is found in a proper prefix of a JPEG, and extra bytes do not move the end."""
    whole = JPEGS[name]
    cut = data.draw(st.integers(0, len(whole) - 1))
    assert find_end_of_image(whole[:cut]) == -1
    assert find_end_of_image(whole + data.draw(st.binary(max_size=8))) == len(whole)


def test_the_end_of_a_thumbnail_is_not_the_end_of_the_image() -> None:
    """A JPEG truncated after its thumbnail is undecodable, although the thumbnail has an end marker."""
    whole, thumbnail = JPEGS["baseline"], JPEGS["grey"]
    segment = b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    with_thumbnail = whole[:2] + segment + whole[2:]
    assert inspect_bytes(with_thumbnail).status == "ok"
    assert with_thumbnail[:-2].count(b"\xff\xd9") == 1
    assert find_end_of_image(with_thumbnail[:-2]) == -1


@pytest.mark.parametrize("image_format", ["PNG", "BMP", "WEBP", "GIF"])
def test_other_truncated_images_are_found(image_format: str) -> None:
    """Truncated files of the other formats are undecodable."""
    whole = encode(noise(), image_format)
    assert inspect_bytes(whole[: len(whole) // 2]).status == "undecodable"


@given(st.binary(max_size=200))
def test_arbitrary_bytes_never_make_the_inspection_raise(data: bytes) -> None:
    """Arbitrary bytes, even after the start of a JPEG or PNG, produce a status and no exception."""
    for start in (b"", JPEGS["baseline"][:300], b"\x89PNG\r\n\x1a\n"):
        assert inspect_bytes(start + data).status in ("ok", "undecodable")


def test_empty_files_and_web_pages_are_recognized(tmp_path: Path) -> None:
    """Empty files and HTML pages are described as such."""
    assert "0 bytes" in write_and_inspect(tmp_path, b"").problem
    page = write_and_inspect(tmp_path, b"<!DOCTYPE html>\n<html><body>404</body></html>")
    assert page.status == "undecodable"
    assert "b'<!DOCTYPE html>'" in page.problem
    assert "b'plain te'" in write_and_inspect(tmp_path, b"plain text").problem


def _png_of(width: int, height: int) -> bytes:
    """Return a PNG of black pixels, which compress to almost nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes((width // 8 + 1) * min(height, 20_000)), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [10_000, 20_000, 60_000])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(side: int) -> None:
    """An image with too many pixels is rejected without decoding, below and above Pillow's hard limit."""
    bomb = _png_of(side, side)
    tracemalloc.start()
    found = inspect_bytes(bomb)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.status == "undecodable"
    assert "pixels" in found.problem
    assert peak < 20e6


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    """A sparse file of one terabyte is rejected because of its size."""
    with (tmp_path / "a.JPEG").open("wb") as file:
        file.truncate(2**40)
    found = inspect_image(tmp_path, "a.JPEG")
    assert (found.status, found.bytes, found.sha256) == ("undecodable", 2**40, "")


def test_one_flipped_bit_changes_the_digest() -> None:
    """A flipped bit inside the scan data changes the digest."""
    whole = JPEGS["baseline"]
    flipped = bytearray(whole)
    flipped[-40] ^= 1
    assert inspect_bytes(whole).sha256 != inspect_bytes(bytes(flipped)).sha256


def test_exif_orientation_is_reported() -> None:
    """The record contains the EXIF orientation, or 1 if there is no EXIF data."""
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
def test_damaged_exif_data_is_reported_and_accepted(exif: bytes) -> None:
    """Damaged EXIF data gives orientation 0, and the image is accepted."""
    found = inspect_bytes(encode(noise(), exif=exif))
    assert (found.status, found.exif_orientation) == ("ok", 0)


def test_damaged_exif_data_of_a_png_is_reported() -> None:
    """Damaged EXIF data in a PNG gives orientation 0."""
    found = inspect_bytes(encode(noise(), "PNG", exif=b"neither II nor MM"))
    assert (found.status, found.exif_orientation) == ("ok", 0)


# ── anything but a regular file ──


@pytest.mark.timeout(10)
def test_special_files_are_reported_without_blocking(tmp_path: Path) -> None:
    """Folders, FIFOs, sockets and devices are recognized without blocking."""
    (tmp_path / "folder.JPEG").mkdir()
    os.mkfifo(tmp_path / "fifo.JPEG")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s.JPEG"))
        (tmp_path / "zero.JPEG").symlink_to("/dev/zero")
        kinds = {"folder": "a folder", "fifo": "a FIFO", "s": "a socket", "zero": "a device"}
        for name, kind in kinds.items():
            found = inspect_image(tmp_path, f"{name}.JPEG")
            assert found.status == "not_a_file"
            assert kind in found.problem


def test_missing_image_is_reported(tmp_path: Path) -> None:
    """An image that does not exist, or whose folder is a file, is reported as missing."""
    (tmp_path / "file").write_bytes(b"")
    for path in ("n1/a.JPEG", "file/a.JPEG", "x" * 300):
        found = inspect_image(tmp_path, path)
        assert found.status == "missing"


def test_broken_links_are_reported_with_their_target(tmp_path: Path) -> None:
    """Dangling and circular links are reported with their target."""
    (tmp_path / "a.JPEG").symlink_to("nowhere.JPEG")
    (tmp_path / "b.JPEG").symlink_to("c.JPEG")
    (tmp_path / "c.JPEG").symlink_to("b.JPEG")
    assert "nowhere.JPEG" in inspect_image(tmp_path, "a.JPEG").problem
    assert "c.JPEG" in inspect_image(tmp_path, "b.JPEG").problem
    assert inspect_image(tmp_path, "b.JPEG").status == "missing"


def test_links_out_of_the_root_are_reported_with_their_target(tmp_path: Path) -> None:
    """Images reached through links out of the root are reported with their real path and not opened."""
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    root.mkdir()
    elsewhere.mkdir()
    (elsewhere / "a.JPEG").write_bytes(JPEGS["baseline"])
    (root / "link.JPEG").symlink_to(elsewhere / "a.JPEG")
    (root / "folder").symlink_to(elsewhere)
    for path in ("link.JPEG", "folder/a.JPEG"):
        found = inspect_image(root, path)
        assert found.status == "outside_root"
        assert str(elsewhere / "a.JPEG") in found.problem
        assert (found.format, found.sha256) == ("", "")


def test_links_within_the_root_are_accepted(tmp_path: Path) -> None:
    """Links that stay below the root are accepted."""
    (tmp_path / "a.JPEG").write_bytes(JPEGS["baseline"])
    (tmp_path / "b.JPEG").symlink_to("a.JPEG")
    assert inspect_image(tmp_path, "b.JPEG").status == "ok"


@pytest.fixture
def without_root_rights():
    """Drop root privileges, so that file permissions apply even if root runs the tests."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    yield
    os.seteuid(before)


def test_unreadable_images_are_reported(without_root_rights) -> None:
    """Unreadable files, and files in unreadable folders, are reported."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_and_inspect(folder, JPEGS["baseline"])
        (folder / "a.JPEG").chmod(0)
        found = inspect_image(folder, "a.JPEG")
        assert found.status == "not_a_file"
        assert "Permission denied" in found.problem
        folder.chmod(0)
        found = inspect_image(folder, "a.JPEG")
        folder.chmod(0o700)
        assert found.status == "missing"
        assert "permission denied" in found.problem
