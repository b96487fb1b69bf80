"""A shard is a plain, reproducible tar file in which any damage is detected."""

from __future__ import annotations

import hashlib
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from resnet50_pipeline.exceptions import DatasetError
from resnet50_pipeline.imagenet.shards.tar import read_shard, write_shard

SOURCE = "ab" * 32
MEMBERS = [("train/n1/a.JPEG", b"x" * 513), ("train/n1/" + "é" * 90 + ".JPEG", b""), ("train/n1/b.JPEG", b"y" * 512)]
NAMES = st.text(
    st.characters(codec="utf-8", exclude_categories=["C", "Z"], exclude_characters="/\\"), min_size=1
).filter(lambda name: name not in (".", "..") and len(name.encode()) < 200)


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    path = tmp_path / "train" / "0000-n1-000.tar"
    write_shard(path, SOURCE, MEMBERS)
    return path


def test_tar_unpacks_a_shard_and_sha256sum_verifies_it(shard: Path, tmp_path: Path):
    """`tar -xf` restores the listed files, and `sha256sum -c` verifies them."""
    out = tmp_path / "out"
    out.mkdir()
    done = subprocess.run(["tar", "-xf", str(shard)], cwd=out, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
    for name, data in MEMBERS:
        assert (out / name).read_bytes() == data
    command = ["sha256sum", "-c", "--strict", "checksums/train/0000-n1-000.sha256"]
    checked = subprocess.run(command, cwd=out, capture_output=True, text=True, check=True)
    assert checked.stdout.count(": OK") == len(MEMBERS)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(st.dictionaries(NAMES, st.binary(max_size=2000), max_size=6))
def test_rows_locate_the_members(tmp_path: Path, content: dict[str, bytes]):
    """Each row locates its member's bytes and contains their digest, and tarfile reads the same members."""
    path = tmp_path / "train" / "0.tar"
    members = [(f"train/{name}", data) for name, data in content.items()]
    written = write_shard(path, SOURCE, members)
    data = path.read_bytes()
    assert written.bytes == len(data)
    for (_, expected), row in zip(members, written.rows, strict=True):
        assert data[row["offset"] : row["offset"] + row["size"]] == expected
        assert bytes(row["digest"]) == hashlib.sha256(expected).digest()
    with tarfile.open(path) as archive:
        found = [(member.name, archive.extractfile(member).read()) for member in archive.getmembers()]
    assert found[:-1] == members
    again = read_shard(path, SOURCE)
    assert again.bytes == written.bytes
    assert (again.rows == written.rows).all()
    write_shard(tmp_path / "again" / "train" / "0.tar", SOURCE, members)
    assert (tmp_path / "again" / "train" / "0.tar").read_bytes() == data


def test_every_flipped_bit_is_found(shard: Path):
    """A flipped bit in a header, a member, the padding or the end is always found."""
    whole = shard.read_bytes()
    for place in range(0, len(whole), 7):
        data = bytearray(whole)
        data[place] ^= 1 << place % 8
        shard.write_bytes(data)
        with pytest.raises(DatasetError, match=r"→ .*data_preparation") as raised:
            read_shard(shard, SOURCE)
        assert str(shard) in str(raised.value)


@pytest.mark.parametrize("field", [b"77777777777\0", b"\x80" + b"\xff" * 11])
@pytest.mark.parametrize("kind", [b"0", b"x", b"g", b"L"])
def test_header_with_absurd_size_is_reported(shard: Path, field: bytes, kind: bytes):
    """An absurd size in the header of a member, pax record or long name is reported without a crash."""
    data = bytearray(shard.read_bytes())
    data[1024 + 124 : 1024 + 136], data[1024 + 156 : 1024 + 157] = field, kind
    data[1024 + 148 : 1024 + 156] = b" " * 8
    data[1024 + 148 : 1024 + 156] = b"%06o\0 " % sum(data[1024:1536])
    shard.write_bytes(data)
    with pytest.raises(DatasetError, match=r"→ .*data_preparation"):
        read_shard(shard, SOURCE)


@pytest.mark.parametrize("size", [0, 100, 512, 1024, 1600, 4096, 5000, 6144, 7167])
def test_truncated_shard_is_reported(shard: Path, size: int):
    """A truncated shard is reported, even if it ends between two members, which tarfile accepts."""
    shard.write_bytes(shard.read_bytes()[:size])
    with pytest.raises(DatasetError, match="data_preparation"):
        read_shard(shard, SOURCE)


def test_extra_bytes_are_reported(shard: Path):
    """Extra bytes after the end of a shard are reported."""
    shard.write_bytes(shard.read_bytes() + bytes(512))
    with pytest.raises(DatasetError, match=shard.name):
        read_shard(shard, SOURCE)


def test_shard_of_other_images_is_reported(shard: Path):
    """A shard with another source digest is reported with both digests."""
    with pytest.raises(DatasetError, match=rf"{SOURCE[:16]}\b.*cdcdcdcd"):
        read_shard(shard, "cd" * 32)


def test_failed_write_leaves_no_file(tmp_path: Path):
    """If an image cannot be packed, no part of the shard is left behind."""

    def members():
        yield "a", b"1"
        raise DatasetError("b: cannot be decoded")

    with pytest.raises(DatasetError, match="b: cannot"):
        write_shard(tmp_path / "train" / "0.tar", SOURCE, members())
    assert list((tmp_path / "train").iterdir()) == []
