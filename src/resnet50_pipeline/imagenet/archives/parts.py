"""Reads ImageNet archives: `ILSVRC2012_img_train.tar` (a tar of 1000 tars), the tar of one class, and the val tar.

for part in find_archive_parts(Path("ILSVRC2012_img_train.tar")):  # several processes can read parts in parallel
    for member, data in iterate_images(part):
        ...  # "n01440764/n01440764_10026.JPEG" and its bytes; one image is in memory at a time
"""

from __future__ import annotations

import contextlib
import io
import math
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from resnet50_pipeline.exceptions import DatasetError, DatasetNotFoundError
from resnet50_pipeline.imagenet.lists.problems import quote

# The same limit as for separate files; see scan.inspection.
MAX_MEMBER_BYTES = 256 * 1024 * 1024
# In ILSVRC2012, class archives are named after WordNet ids. A file with another name may be a val archive.
_SYNSET_ARCHIVE = re.compile(r"(n[0-9]{8})\.tar")
# Class archives of other datasets. A leading dot would hide the class folder.
_CLASS_ARCHIVE = re.compile(r"([^./\\\x00-\x1f][^/\\\x00-\x1f]*)\.tar")
_COMPRESSED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\0": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"PK\x03\x04": "zip",
}
_BLOCK = tarfile.BLOCKSIZE
# The year 2116. A float close to the int64 limit could round to a value above it.
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
    """A tar that contains only images, no other tars: one class of the train archive, or an entire archive file.

    Parts are picklable, so several processes can read them in parallel.

    Attributes:
        path: path of the archive file.
        offset: position of the tar's first byte in the file.
        size: size of the tar in bytes.
        folder: class folder of its images; empty for the val archive.
    """

    path: Path
    offset: int
    size: int
    folder: str

    @property
    def display_name(self) -> str:
        """Name used in messages: `ILSVRC2012_img_train.tar:n01440764.tar`."""
        is_whole = self.offset == 0
        return str(self.path) if is_whole else f"{self.path}:{self.folder}.tar"


@dataclass(frozen=True)
class ArchiveMember:
    """Position and metadata of one image in an archive part.

    Attributes:
        name: POSIX path below the split's folder, `n01440764/n01440764_10026.JPEG`.
        offset: position of the image's first byte in the archive file.
        size: size in bytes.
        mtime_ns: modification time recorded in the archive, nanoseconds since 1970; never negative.
    """

    name: str
    offset: int
    size: int
    mtime_ns: int


def find_archive_parts(path: Path, setting: str = "") -> tuple[ArchivePart, ...]:
    """Return the parts of an archive, or of all class archives in a folder. Only the outer headers are read.

    Args:
        path: the train archive, a class archive (`n01440764.tar`), the val archive, or a folder of class archives. If
            no archive in the folder is named after a synset, every `<class>.tar` is a class archive.
        setting: parameter or option that sets the path, for the error message.

    Raises:
        DatasetNotFoundError: if `path` does not exist, or is a folder without class archives.
        DatasetError: if the file is not a tar, is truncated, or contains a member that does not belong in an image
            archive.
    """
    if path.is_dir():
        files = sorted(path.iterdir())
        if synsets := [file for file in files if _SYNSET_ARCHIVE.fullmatch(file.name)]:
            return tuple(part for file in synsets for part in find_archive_parts(file))
        classes = [(file, match[1]) for file in files if (match := _CLASS_ARCHIVE.fullmatch(file.name))]
        if not classes:
            raise DatasetNotFoundError(
                f"{path} contains no class archives such as n01440764.tar → choose the folder that contains the class "
                "archives"
            )
        return tuple(_open_class_archive(file, name) for file, name in classes)
    if not path.is_file():
        raise DatasetNotFoundError(f"{path}: the archive is missing → correct {setting or 'the path'}")
    size = path.stat().st_size
    with path.open("rb") as file:
        _require_uncompressed(file, path)
        members = _walk_members(file, str(path))
        first = next((member for member in members if not is_added_by_macos(member.name)), None)
        if first is None:
            raise DatasetError(f"{path}: the archive is empty → download it again")
        if not first.name.endswith(".tar"):
            match = _SYNSET_ARCHIVE.fullmatch(path.name)
            return (ArchivePart(path, 0, size, match[1] if match else ""),)
        file.seek(0)
        parts = []
        for member in _walk_members(file, str(path)):
            if is_added_by_macos(member.name):
                continue
            match = _CLASS_ARCHIVE.fullmatch(member.name.removeprefix("./"))
            if match is None:
                raise DatasetError(
                    f"{path}: {quote(member.name)} is not a class archive such as n01440764.tar, unlike the members "
                    "before it → remove the member, or download the archive again"
                )
            parts.append(ArchivePart(path, member.offset_data, member.size, match[1]))
    names = [part.folder for part in parts]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise DatasetError(f"{path} contains duplicate class archives ({', '.join(repeated)}) → download it again")
    return tuple(parts)


def _open_class_archive(path: Path, name: str) -> ArchivePart:
    (part,) = parts if len(parts := find_archive_parts(path)) == 1 else (None,)
    if part is None or part.offset:
        raise DatasetError(
            f"{path} contains other archives, but a folder of class archives was expected → set the path of the "
            "archive instead of the folder"
        )
    return replace(part, folder=name)


def list_images(part: ArchivePart, skipped: list[str] | None = None) -> Iterator[ArchiveMember]:
    """Yield the images in a part, in archive order, by reading only the headers.

    Args:
        part: the part to read.
        skipped: receives the names of the members that macOS added, which are not images.

    Raises:
        DatasetError: if the archive is truncated, or if a member would be written outside the split's folder, is not a
            regular file, has the same name as another member, or is too large.
    """
    with _open_part(part) as file:
        yield from _walk_images(part, file, [] if skipped is None else skipped)


def iterate_images(part: ArchivePart) -> Iterator[tuple[ArchiveMember, bytes]]:
    """Yield each image in a part with its bytes. Only one image is in memory at a time.

    Raises:
        DatasetError: for the same reasons as `list_images`.
    """
    with _open_part(part) as file:
        for member in _walk_images(part, file, []):
            file.seek(member.offset - part.offset)
            data = file.read(member.size)
            if len(data) != member.size:
                raise _make_truncated_error(part.display_name, quote(member.name))
            yield member, data


def is_added_by_macos(name: str) -> bool:
    """Return whether a member was added by `tar` or the Finder on macOS: `._name`, `.DS_Store`, `__MACOSX/…`."""
    *folders, last = name.removeprefix("./").split("/")
    return last.startswith("._") or last == ".DS_Store" or "__MACOSX" in folders


def find_name_problem(name: str) -> str:
    """Return why a member's name is unsafe as a path, or an empty string if the name is safe."""
    components = name.split("/")
    try:
        name.encode("utf-8")
        is_text = True
    except UnicodeEncodeError:
        is_text = False
    findings = (
        (name.startswith("/"), "is an absolute path"),
        (".." in components, "escapes its folder through `..`"),
        ("" in components or "." in components, "has an empty component or `.` in its path"),
        ("\\" in name, "has a backslash in its path"),
        (not is_text or not name.isprintable(), "has unprintable or invalid characters in its name"),
        (
            any(component.startswith(".") for component in components),
            "has a path component with a leading dot, which would be hidden",
        ),
        (
            any(len(component.encode("utf-8", "replace")) > 255 for component in components),
            "has a path component longer than 255 bytes",
        ),
    )
    return next((finding for holds, finding in findings if holds), "")


def _walk_images(part: ArchivePart, file: IO[bytes], skipped: list[str]) -> Iterator[ArchiveMember]:
    """Yield the images in a part after checking each of them."""
    names: set[str] = set()
    for member in _walk_members(file, part.display_name):
        name = member.name.removeprefix("./")
        where = f"{part.display_name}: {quote(member.name)}"
        if member.isdir() and name in ("", "."):
            continue
        if member.isreg() and is_added_by_macos(name):
            skipped.append(name)
            continue
        problem = find_name_problem(name.removesuffix("/") if member.isdir() else name)
        if problem:
            raise DatasetError(f"{where} {problem} → do not use this archive; download it again from its source")
        if member.isdir():
            continue
        if not member.isreg() or member.issparse():
            kind = _KINDS.get(member.type, "not a regular file")
            raise DatasetError(
                f"{where} is {kind}, which does not belong in an image archive → do not use this archive; download it "
                "again from its source"
            )
        depth = name.count("/") + bool(part.folder)
        if depth > 1:
            raise DatasetError(
                f"{where} is more than one folder deep → unpack the archive yourself and check the result"
            )
        if member.size > MAX_MEMBER_BYTES:
            raise DatasetError(
                f"{where} is {member.size:,} bytes, over the limit of {MAX_MEMBER_BYTES:,} → remove the member"
            )
        if name in names:
            raise DatasetError(f"{where} appears in the archive twice → download it again")
        names.add(name)
        path = f"{part.folder}/{name}" if part.folder else name
        # GNU tar stores whole seconds. A pax header can contain a fraction, a negative number or even NaN.
        mtime_ns = int(min(max(0, member.mtime * 10**9), _MAX_MTIME_NS)) if math.isfinite(member.mtime) else 0
        yield ArchiveMember(path, part.offset + member.offset_data, member.size, mtime_ns)


def _require_uncompressed(file: IO[bytes], path: Path) -> None:
    start = file.read(8)
    file.seek(0)
    if kind := next((kind for magic, kind in _COMPRESSED.items() if start.startswith(magic)), None):
        raise DatasetError(
            f"{path} is compressed with {kind}, but images can be read in place only from an uncompressed tar → "
            "decompress the archive" + (f" (`gunzip {path.name}`)" if kind == "gzip" else "")
        )


def _walk_members(file: IO[bytes], display_name: str) -> Iterator[tarfile.TarInfo]:
    """Yield the members of a tar. Only one member is in memory at a time.

    `tarfile` keeps all members in memory, and its `next` returns None not only at the end of the archive but also for a
    truncated file or a damaged header. A complete archive ends with a block of zeros, so this function requires one.
    """
    try:
        with tarfile.open(fileobj=file, mode="r:") as archive:
            reached = -1
            while (member := archive.next()) is not None:
                archive.members.clear()  # type: ignore[attr-defined] # missing in typeshed
                # A negative size would move the position backward, and the loop would never end.
                if member.size < 0 or archive.offset <= reached:
                    raise _make_truncated_error(display_name, f"at {quote(member.name)}")
                reached = archive.offset
                yield member
            file.seek(archive.offset)
            if file.read(_BLOCK) != bytes(_BLOCK):
                raise _make_truncated_error(display_name, f"after byte {archive.offset}")
    except (tarfile.TarError, ValueError, OverflowError) as error:  # damaged headers contain invalid numbers
        raise DatasetError(f"{display_name} is damaged or not a tar archive ({error}) → download it again") from error


def _make_truncated_error(display_name: str, where: str) -> DatasetError:
    return DatasetError(
        f"{display_name} is truncated or damaged {where} → download it again (the download page shows the checksum)"
    )


@contextlib.contextmanager
def _open_part(part: ArchivePart) -> Iterator[IO[bytes]]:
    with part.path.open("rb") as whole:
        yield whole if part.offset == 0 else io.BufferedReader(_Window(whole, part.offset, part.size))


class _Window(io.RawIOBase):
    """Read-only view of a section of another file."""

    def __init__(self, file: IO[bytes], offset: int, size: int) -> None:
        self._file, self._offset, self._size = file, offset, size
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, origin: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[origin]
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
