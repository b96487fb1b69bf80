"""One shard: a plain tar file that says what it was made of, and whether it is whole.

    pax header, comment=<digest of the sources>             as `git archive` has its commit there
    train/n01440764/n01440764_26.JPEG                       the images, by the names of the list
    checksums/train/0000-n01440764-000.sha256               for `sha256sum -c`, once it is unpacked

Headers are the same whoever packs, wherever and when: the same images give the same bytes.
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
from resnet50_pipeline.imagenet.shard_set import INDEX_DTYPE

_BLOCK = tarfile.BLOCKSIZE
_END = bytes(2 * _BLOCK)
_COMMENT = "comment"
_CHECKSUMS = "checksums"


@dataclass(frozen=True, eq=False)
class ShardRows:
    """What is in a shard.

    Attributes:
        bytes: of the file.
        rows: [N] INDEX_DTYPE, a row a member, in its order; `shard` and `label` are 0, nothing here knows them.
    """

    bytes: int
    rows: NDArray[np.void]


def write_shard(path: Path, source: str, members: Iterable[tuple[str, bytes]]) -> ShardRows:
    """Write a shard aside, read it back from the disk, compare every member's digest, and rename it to `path`.

    Args:
        path: of the tar file; its folder and its own name say what the checksums are called.
        source: digest of what it is made of.
        members: name and bytes of each image.

    Raises:
        DatasetError: what was read back is not what was written, or it cannot be written.
    """
    try:
        with replacing_file(path) as temporary:
            with temporary.open("wb") as file:
                written = _write(file, path, source, members)
                file.flush()
                os.fsync(file.fileno())
                # So that it is the disk that is read, not the copy in memory.
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            found = read_shard(temporary, source, checksums_of=path)
            if found.bytes != written.bytes or not np.array_equal(found.rows, written.rows):
                raise DatasetError(
                    f"{path}: what was read back is not what was written → look at the disk (`dmesg`, `smartctl`), "
                    "and run it again"
                )
    except OSError as error:
        raise DatasetError(
            f"{path}: cannot be written: {error.strerror} → make room or permit it, and run it again: shards that are "
            "finished are kept"
        ) from error
    return written


def read_shard(path: Path, source: str | None = None, *, checksums_of: Path | None = None) -> ShardRows:
    """Read a whole shard and return what is in it, each member with the digest of its bytes.

    Args:
        path: of the tar file.
        source: digest of what it must be made of; None accepts any.
        checksums_of: the path that it was written for, where it has another now.

    Raises:
        DatasetError: it is not there, cut off, made of something else, or a member has not its checksum.
    """
    again = "delete it, and run data_preparation again, which makes what is missing"
    try:
        with path.open("rb", buffering=1 << 20) as file, tarfile.open(fileobj=file, mode="r:") as archive:
            made_of = archive.pax_headers.get(_COMMENT, "")
            if source is not None and made_of != source:
                raise DatasetError(
                    f"{path}: was made of other images, or otherwise: {made_of:.16} is not {source:.16} → {again}"
                )
            rows, names, sums = _read_members(
                file, archive, _render_source(made_of), _checksums_name(checksums_of or path)
            )
            if sums is None or file.read() != _END:
                raise DatasetError(f"{path}: was cut off or added to → {again}")
            size = file.tell()
    except FileNotFoundError as error:
        raise DatasetError(f"{path}: is not there → run data_preparation again") from error
    # A damaged header may claim a size that no memory has, or no number.
    except (OSError, tarfile.TarError, ValueError, MemoryError, OverflowError) as error:
        raise DatasetError(f"{path}: is no whole shard ({error}) → {again}") from error
    if sums != _render_checksums(names, rows):
        raise DatasetError(f"{path}: its members have not the checksums that were written with them → {again}")
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
    """Write one member; return where its bytes begin."""
    file.write(_render_header(name, len(data)))
    offset = file.tell()
    file.write(data)
    file.write(_padding(len(data)))
    return offset


def _read_members(
    file: IO[bytes], archive: tarfile.TarFile, start: bytes, checksums: str
) -> tuple[NDArray[np.void], list[str], bytes | None]:
    """Return a row for every image, their names, and the bytes of the last member, the checksums, if it is there.

    tarfile says what a member is called and how large it is; every other byte must be the one that `_write` writes for
    such a member. Afterwards the file's position is behind the last member.
    """
    names: list[str] = []
    rows: list[tuple[object, ...]] = []
    size = os.fstat(file.fileno()).st_size
    file.seek(0)
    _expect(file, start, "its first header")
    position = file.tell()
    while (member := archive.next()) is not None:
        archive.members.clear()  # type: ignore[attr-defined] # typeshed does not have it
        file.seek(position)
        _expect(file, _render_header(member.name, member.size), f"the header of {member.name}")
        offset = file.tell()
        if member.size > size - offset:
            raise ValueError(f"ends inside {member.name}")
        data = file.read(member.size)
        _expect(file, _padding(member.size), f"what follows {member.name}")
        if member.name == checksums:
            return np.array(rows, dtype=INDEX_DTYPE), names, data
        position = file.tell()
        names.append(member.name)
        digest = np.frombuffer(hashlib.sha256(data).digest(), dtype=np.uint8)
        rows.append((0, member.size, offset, 0, digest))
    return np.array(rows, dtype=INDEX_DTYPE), names, None


def _expect(file: IO[bytes], expected: bytes, what: str) -> None:
    if file.read(len(expected)) != expected:
        raise ValueError(f"{what} is not as it is written")


def _render_source(source: str) -> bytes:
    return tarfile.TarInfo.create_pax_global_header({_COMMENT: source})


def _render_header(name: str, size: int) -> bytes:
    """Return what stands before a member's bytes: the time is that of 1970, the owner 0."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o644
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8")


def _padding(size: int) -> bytes:
    return bytes(-size % _BLOCK)


def _checksums_name(path: Path) -> str:
    return f"{_CHECKSUMS}/{path.parent.name}/{path.stem}.sha256"


def _render_checksums(names: Sequence[str], rows: NDArray[np.void]) -> bytes:
    """Return what `sha256sum` prints for the members."""
    digests = rows["digest"] if len(rows) else ()
    return "".join(f"{bytes(digest).hex()}  {name}\n" for name, digest in zip(names, digests, strict=True)).encode()
