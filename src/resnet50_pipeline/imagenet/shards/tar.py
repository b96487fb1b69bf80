"""Reads and writes one shard, a plain tar file that records its inputs and checksums.

    pax header, comment=<digest of the inputs>              where `git archive` stores the commit
    train/n01440764/n01440764_26.JPEG                       the images, named as in the list
    checksums/train/0000-n01440764-000.sha256               for `sha256sum -c` after unpacking

Headers contain no owner, host or time, so the same images always produce the same bytes.
"""

from __future__ import annotations

import hashlib
import os
import tarfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from resnet50_pipeline.exceptions import DatasetError
from resnet50_pipeline.files import replacing_file
from resnet50_pipeline.imagenet.shards.shard_set import INDEX_DTYPE

_BLOCK = tarfile.BLOCKSIZE
_END = bytes(2 * _BLOCK)
_COMMENT = "comment"
_CHECKSUMS = "checksums"


@dataclass(frozen=True, eq=False)
class ShardRows:
    """The size of a shard, and one row per member.

    Attributes:
        bytes: size of the file.
        rows: [N] INDEX_DTYPE, one row per member, in order. `shard` and `label` are 0 until the caller fills them in.
    """

    bytes: int
    rows: NDArray[np.void]


def write_shard(path: Path, source: str, members: Iterable[tuple[str, bytes]]) -> ShardRows:
    """Write a shard to a temporary file, verify it by reading it back from disk, and rename it to `path`.

    Args:
        path: path of the tar file. The checksums member is named after this file and its folder.
        source: digest of the inputs.
        members: name and bytes of each image.

    Raises:
        DatasetError: if the shard cannot be written, or differs when read back.
    """
    try:
        with replacing_file(path) as temporary:
            with temporary.open("wb") as file:
                written = _write(file, path, source, members)
                file.flush()
                os.fsync(file.fileno())
                # Drop the page cache, so that reading verifies the disk rather than the copy in memory.
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            found = read_shard(temporary, source, checksums_of=path)
            if found.bytes != written.bytes or not np.array_equal(found.rows, written.rows):
                raise DatasetError(
                    f"{path} differs when read back from disk → check the disk (`dmesg`, `smartctl`) and try again"
                )
    except OSError as error:
        raise DatasetError(
            f"{path} cannot be written: {error.strerror} → free up space or make the folder writable, then try again "
            "(finished shards are kept)"
        ) from error
    return written


def read_shard(path: Path, source: str | None = None, *, checksums_of: Path | None = None) -> ShardRows:
    """Read an entire shard and return its members with their digests.

    Args:
        path: path of the tar file.
        source: required digest of the inputs; None accepts any.
        checksums_of: final path of the shard, if it differs from `path`.

    Raises:
        DatasetError: if the shard is missing, truncated or made from different inputs, or if a member does not match
            its checksum.
    """
    again = "move the shard elsewhere and run data_preparation again, which builds missing shards"
    try:
        with path.open("rb", buffering=1 << 20) as file, tarfile.open(fileobj=file, mode="r:") as archive:
            made_of = archive.pax_headers.get(_COMMENT, "")
            if source is not None and made_of != source:
                raise DatasetError(
                    f"{path} was built from other images or settings: its digest is {made_of:.16}, not {source:.16} → "
                    f"{again}"
                )
            rows, names, sums = _read_members(
                file, archive, _render_source(made_of), _checksums_name(checksums_of or path)
            )
            if sums is None or file.read() != _END:
                raise DatasetError(f"{path} is truncated or has extra bytes → {again}")
            size = file.tell()
    except FileNotFoundError as error:
        raise DatasetError(f"{path} is missing → run data_preparation again") from error
    # A damaged header can contain an invalid number or a size that exceeds the memory.
    except (OSError, tarfile.TarError, ValueError, MemoryError, OverflowError) as error:
        raise DatasetError(f"{path} is damaged ({error}) → {again}") from error
    if sums != _render_checksums(names, rows):
        raise DatasetError(f"{path}: the members do not match their checksums → {again}")
    return ShardRows(size, rows)


def _write(file: IO[bytes], path: Path, source: str, members: Iterable[tuple[str, bytes]]) -> ShardRows:
    file.write(_render_source(source))
    names: list[str] = []
    rows: list[tuple[object, ...]] = []
    for name, data in members:
        offset = _write_member(file, name, data)
        names.append(name)
        rows.append((0, len(data), offset, 0, np.frombuffer(hashlib.sha256(data).digest(), dtype=np.uint8)))
    table = np.array(rows, dtype=INDEX_DTYPE)
    _write_member(file, _checksums_name(path), _render_checksums(names, table))
    file.write(_END)
    return ShardRows(file.tell(), table)


def _write_member(file: IO[bytes], name: str, data: bytes) -> int:
    """Write one member and return the position of its first byte."""
    file.write(_render_header(name, len(data)))
    offset = file.tell()
    file.write(data)
    file.write(_padding(len(data)))
    return offset


def _read_members(
    file: IO[bytes], archive: tarfile.TarFile, start: bytes, checksums: str
) -> tuple[NDArray[np.void], list[str], bytes | None]:
    """Return one row per image, the names, and the bytes of the checksums member (None if this member is missing).

    `tarfile` provides the name and size of each member. All other bytes must equal what `_write` writes for the member,
    which detects flipped bits. Afterward, the file is positioned after the last member.
    """
    names: list[str] = []
    rows: list[tuple[object, ...]] = []
    size = os.fstat(file.fileno()).st_size
    file.seek(0)
    _require_bytes(file, start, "its first header")
    position = file.tell()
    while (member := archive.next()) is not None:
        archive.members.clear()  # type: ignore[attr-defined] # missing in typeshed
        file.seek(position)
        _require_bytes(file, _render_header(member.name, member.size), f"the header of {member.name}")
        offset = file.tell()
        if member.size > size - offset:
            raise ValueError(f"ends inside {member.name}")
        data = file.read(member.size)
        _require_bytes(file, _padding(member.size), f"the padding after {member.name}")
        if member.name == checksums:
            return np.array(rows, dtype=INDEX_DTYPE), names, data
        position = file.tell()
        names.append(member.name)
        digest = np.frombuffer(hashlib.sha256(data).digest(), dtype=np.uint8)
        rows.append((0, member.size, offset, 0, digest))
    return np.array(rows, dtype=INDEX_DTYPE), names, None


def _require_bytes(file: IO[bytes], expected: bytes, what: str) -> None:
    if file.read(len(expected)) != expected:
        raise ValueError(f"{what} differs from what `write_shard` writes")


def _render_source(source: str) -> bytes:
    return tarfile.TarInfo.create_pax_global_header({_COMMENT: source})


def _render_header(name: str, size: int) -> bytes:
    """Return the header of a member, dated 1970 and owned by user 0."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o644
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8")


def _padding(size: int) -> bytes:
    return bytes(-size % _BLOCK)


def _checksums_name(path: Path) -> str:
    return f"{_CHECKSUMS}/{path.parent.name}/{path.stem}.sha256"


def _render_checksums(names: Sequence[str], rows: NDArray[np.void]) -> bytes:
    """Return the checksums of the members, in the format of `sha256sum`."""
    digests = rows["digest"] if len(rows) else ()
    return "".join(f"{bytes(digest).hex()}  {name}\n" for name, digest in zip(names, digests, strict=True)).encode()
