"""ImageNet as it is distributed: `ILSVRC2012_img_train.tar` (a tar of 1000 tars), the tar of one class, the val tar.

for name, data in iterate_archive_members(Path("ILSVRC2012_img_train.tar")):
    ...  # "n01440764/n01440764_10026.JPEG", the bytes of the file; one image is in memory at a time
"""

from __future__ import annotations

import contextlib
import io
import math
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from resnet50_pipeline.exceptions import DatasetError, DatasetNotFoundError
from resnet50_pipeline.imagenet.list_problems import shown

# As an image that is a file of its own, see imagenet.inspection.
MAX_MEMBER_BYTES = 256 * 1024 * 1024
# What stands for a class: ILSVRC2012's WordNet numbers.
_CLASS_ARCHIVE = re.compile(r"(n[0-9]{8})\.tar")
_BLOCK = tarfile.BLOCKSIZE
# Of the year 2116; a float as large as an int64 may be rounds to one that is too large.
_MAX_MTIME_NS = 2**62
_KINDS = {
    tarfile.LNKTYPE: "a hard link",
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a FIFO",
}


@dataclass(frozen=True)
class ArchivePart:
    """One tar without a tar inside it: a class of the train archive, or a whole file. Can be sent to another process.

    Attributes:
        path: the file.
        offset: of the tar's first byte in it.
        size: of the tar, bytes.
        folder: class folder of its images; empty for the val archive.
    """

    path: Path
    offset: int
    size: int
    folder: str

    @property
    def place(self) -> str:
        """How messages name it: `ILSVRC2012_img_train.tar:n01440764.tar`."""
        is_whole = self.offset == 0
        return str(self.path) if is_whole else f"{self.path}:{self.folder}.tar"


@dataclass(frozen=True)
class ArchiveMember:
    """One image in a part.

    Attributes:
        name: POSIX path below the split's folder, `n01440764/n01440764_10026.JPEG`.
        offset: of its first byte in the file.
        size: bytes.
        mtime_ns: time of change that the archive gives it, nanoseconds since 1970; never negative.
    """

    name: str
    offset: int
    size: int
    mtime_ns: int


def find_archive_parts(path: Path) -> tuple[ArchivePart, ...]:
    """Return the parts of an archive, or of all tars in a folder, by reading no more than the outer headers.

    Args:
        path: the train archive, that of a class (`n01440764.tar`), or the val archive; or a folder of class archives.

    Raises:
        DatasetNotFoundError: there is nothing at `path`, or no class archive in the folder.
        DatasetError: no tar, cut off, or with a member that is not what an archive of images has.
    """
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if _CLASS_ARCHIVE.fullmatch(file.name))
        if not files:
            raise DatasetNotFoundError(f"{path}: there is no n01440764.tar or another class's → name a folder that has")
        return tuple(part for file in files for part in find_archive_parts(file))
    if not path.is_file():
        raise DatasetNotFoundError(f"{path}: there is no such archive → correct the path")
    size = path.stat().st_size
    with path.open("rb") as file:
        first = next(_walk_members(file, str(path)), None)
        if first is None:
            raise DatasetError(f"{path}: the archive is empty → download it again")
        if not first.name.endswith(".tar"):
            match = _CLASS_ARCHIVE.fullmatch(path.name)
            return (ArchivePart(path, 0, size, match[1] if match else ""),)
        file.seek(0)
        parts = []
        for member in _walk_members(file, str(path)):
            match = _CLASS_ARCHIVE.fullmatch(member.name.removeprefix("./"))
            if match is None:
                raise DatasetError(
                    f"{path}: {shown(member.name)}: is not the archive of a class, such as n01440764.tar, as those "
                    "before it → take it out, or download the archive again"
                )
            parts.append(ArchivePart(path, member.offset_data, member.size, match[1]))
    names = [part.folder for part in parts]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise DatasetError(f"{path}: {', '.join(repeated)}: twice in the archive → download it again")
    return tuple(parts)


def list_part(part: ArchivePart) -> Iterator[ArchiveMember]:
    """Yield what is in a part, in its order, by reading its headers only.

    Raises:
        DatasetError: a member leads out of the split's folder, is no regular file, has the name of another or is too
            large; or the archive is cut off.
    """
    with _open_part(part) as file:
        yield from _walk_images(part, file)


def iterate_part(part: ArchivePart) -> Iterator[tuple[ArchiveMember, bytes]]:
    """Yield each image of a part with its bytes; one is in memory at a time.

    Raises:
        DatasetError: as `list_part`.
    """
    with _open_part(part) as file:
        for member in _walk_images(part, file):
            file.seek(member.offset - part.offset)
            data = file.read(member.size)
            if len(data) != member.size:
                raise _cut_off(part.place, shown(member.name))
            yield member, data


def iterate_archive_members(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield name and bytes of each image of an archive, or of all class archives in a folder, without unpacking it.

    Args:
        path: see `find_archive_parts`, whose parts can be read by several processes at once with `iterate_part`.

    Raises:
        DatasetError: as `find_archive_parts` and `list_part`.
    """
    for part in find_archive_parts(path):
        for member, data in iterate_part(part):
            yield member.name, data


def find_name_problem(name: str) -> str:
    """Return why a member's name must not become a path, or an empty string."""
    components = name.split("/")
    try:
        name.encode("utf-8")
        is_text = True
    except UnicodeEncodeError:
        is_text = False
    findings = (
        (name.startswith("/"), "is an absolute path"),
        (".." in components, "leads out of its folder with `..`"),
        ("" in components or "." in components, "has an empty component or `.` in its path"),
        ("\\" in name, "has a backslash in its path"),
        (not is_text or not name.isprintable(), "has characters that no image's name has"),
        (any(component.startswith(".") for component in components), "begins with a dot, which hides the file"),
        (any(len(component.encode("utf-8", "replace")) > 255 for component in components), "is too long"),
    )
    return next((finding for holds, finding in findings if holds), "")


def _walk_images(part: ArchivePart, file: IO[bytes]) -> Iterator[ArchiveMember]:
    """Yield the images of a part after checking each."""
    names: set[str] = set()
    for member in _walk_members(file, part.place):
        name = member.name.removeprefix("./")
        where = f"{part.place}: {shown(member.name)}"
        if member.isdir() and name in ("", "."):
            continue
        problem = find_name_problem(name.removesuffix("/") if member.isdir() else name)
        if problem:
            raise DatasetError(f"{where}: {problem} → do not trust this archive; download it again from its source")
        if member.isdir():
            continue
        if not member.isreg() or member.issparse():
            kind = _KINDS.get(member.type, "no plain file")
            raise DatasetError(f"{where}: is {kind}, and archives of images have none → do not trust this archive")
        depth = name.count("/") + bool(part.folder)
        if depth > 1:
            raise DatasetError(f"{where}: lies deeper than a class folder → unpack the archive yourself and look")
        if member.size > MAX_MEMBER_BYTES:
            raise DatasetError(f"{where}: has {member.size} bytes, more than {MAX_MEMBER_BYTES} → take it out")
        if name in names:
            raise DatasetError(f"{where}: twice in the archive → download it again")
        names.add(name)
        path = f"{part.folder}/{name}" if part.folder else name
        # GNU tar counts seconds in whole numbers; pax headers may have a fraction, or anything else.
        mtime_ns = int(min(max(0, member.mtime * 10**9), _MAX_MTIME_NS)) if math.isfinite(member.mtime) else 0
        yield ArchiveMember(path, part.offset + member.offset_data, member.size, mtime_ns)


def _walk_members(file: IO[bytes], place: str) -> Iterator[tarfile.TarInfo]:
    """Yield the members of a tar, in memory one at a time.

    `tarfile` keeps all that it has seen, and takes the end of a file that was cut off, or a damaged header, for the end
    of the archive (its `next` returns None for either). An archive that is whole ends in a block of zeros.
    """
    try:
        with tarfile.open(fileobj=file, mode="r:") as archive:
            reached = -1
            while (member := archive.next()) is not None:
                archive.members.clear()  # type: ignore[attr-defined] # typeshed does not have it
                # A negative size would lead back, and round in a circle.
                if member.size < 0 or archive.offset <= reached:
                    raise _cut_off(place, f"at {shown(member.name)}")
                reached = archive.offset
                yield member
            file.seek(archive.offset)
            if file.read(_BLOCK) != bytes(_BLOCK):
                raise _cut_off(place, f"behind byte {archive.offset}")
    except (tarfile.TarError, ValueError, OverflowError) as error:  # of numbers in damaged headers, too
        raise DatasetError(f"{place}: is no tar archive, or damaged ({error}) → download it again") from error


def _cut_off(place: str, where: str) -> DatasetError:
    return DatasetError(
        f"{place}: was cut off or damaged {where} → download it again (the checksum is on the page it came from)"
    )


@contextlib.contextmanager
def _open_part(part: ArchivePart) -> Iterator[IO[bytes]]:
    with part.path.open("rb") as whole:
        yield whole if part.offset == 0 else io.BufferedReader(_Window(whole, part.offset, part.size))


class _Window(io.RawIOBase):
    """A part of a file as a file."""

    def __init__(self, file: IO[bytes], offset: int, size: int) -> None:
        self._file, self._offset, self._size = file, offset, size
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override] # typeshed's Buffer has no length
        count = max(0, min(len(buffer), self._size - self._position))
        self._file.seek(self._offset + self._position)
        data = self._file.read(count)
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)
