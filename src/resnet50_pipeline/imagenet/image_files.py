"""Opens one image, as a file of its own or in an archive, and inspects it; whatever is found, nothing is raised."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from resnet50_pipeline.imagenet.inspection import (
    HEADER_BYTES,
    MAX_BYTES,
    Inspection,
    ScanLevel,
    accept_header,
    inspect_bytes,
    inspect_header,
)
from resnet50_pipeline.imagenet.jpeg_stream import END_OF_IMAGE


def inspect_image(root: Path, path: str, level: ScanLevel = "full") -> Inspection:
    """Read the file at `root / path` as far as `level` asks. Never raises for what it finds, and never blocks.

    Nothing outside of `root` is opened.

    Args:
        root: dataset root, with symbolic links resolved.
        path: POSIX path relative to `root`.
        level: what is looked at.
    """
    file = root / path
    try:
        status = file.stat()
    except (OSError, ValueError) as error:
        return Inspection(status="missing", problem=_explain_missing(file, error))
    if not stat.S_ISREG(status.st_mode):
        return Inspection(
            status="not_a_file", problem=f"is {_kind(status.st_mode)} → put the image there, or take its line out"
        )
    if outside := _find_target_outside(root, file):
        return Inspection(
            bytes=status.st_size,
            status="outside_root",
            problem=f"is or lies behind a symbolic link out of the dataset root, to {outside} → copy it below the root",
        )
    return inspect_file(file, level) if level != "structure" else Inspection(bytes=status.st_size)


def inspect_file(file: str | Path, level: ScanLevel, size: int = 0) -> Inspection:
    """Read what is known to be a regular file, and to lie below the dataset root, at level header or full.

    Args:
        file: its path.
        level: header or full.
        size: bytes, where a walk has found them; saves level header a call.
    """
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        return Inspection(status="missing", problem=_explain_missing(Path(file), error))
    except OSError as error:
        return Inspection(status="not_a_file", problem=f"cannot be read: {error.strerror} → make it readable")
    try:
        if level == "header" and (found := _inspect_ends(descriptor, 0, size)):
            return found
        return _inspect_opened(descriptor, level)
    except OSError as error:
        return Inspection(status="not_a_file", problem=f"cannot be read: {error.strerror} → make it readable")
    finally:
        os.close(descriptor)


def inspect_archived(
    archive: str | Path, offsets: Sequence[int], sizes: Sequence[int], level: ScanLevel
) -> list[Inspection]:
    """Read images that lie in an archive, at level header or full.

    Args:
        archive: a regular file.
        offsets: [N] of the images' first bytes in it.
        sizes: [N] bytes.
        level: header or full.
    """
    try:
        descriptor = os.open(archive, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        problem = f"cannot be read: {archive}: {error.strerror} → make the archive readable"
        return [Inspection(status="not_a_file", problem=problem)] * len(sizes)
    try:
        return [_inspect_archived(descriptor, offset, size, level) for offset, size in zip(offsets, sizes, strict=True)]
    finally:
        os.close(descriptor)


def _inspect_archived(descriptor: int, offset: int, size: int, level: ScanLevel) -> Inspection:
    try:
        return _inspect_bytes_at(descriptor, offset, size, level)
    except OSError as error:
        problem = f"cannot be read from its archive: {error.strerror} → copy the archive again"
        return Inspection(status="not_a_file", problem=problem)


def _inspect_opened(descriptor: int, level: ScanLevel) -> Inspection:
    # Not a seek to the end, which is a call less: a FIFO or a folder that took the file's place has none.
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        return Inspection(
            status="not_a_file", problem=f"is {_kind(status.st_mode)} → put the image there, or take its line out"
        )
    return _inspect_bytes_at(descriptor, 0, status.st_size, level)


def _inspect_bytes_at(descriptor: int, offset: int, size: int, level: ScanLevel) -> Inspection:
    """Inspect `size` bytes of an opened file from `offset` on: all of it, or a member of an archive."""
    if size > MAX_BYTES:
        problem = f"has {size} bytes, more than {MAX_BYTES} → replace it"
        return Inspection(bytes=size, status="undecodable", problem=problem)
    if level == "header" and (found := _inspect_ends(descriptor, offset, size)):
        return found
    data = _read(descriptor, offset, size)
    return inspect_bytes(data) if level == "full" else inspect_header(data)


def _inspect_ends(descriptor: int, offset: int, size: int) -> Inspection | None:
    """Return what a plain JPEG is by its first and its last bytes; None asks for a closer look, as at all else."""
    if not HEADER_BYTES < size <= MAX_BYTES:
        return None
    try:
        start = os.pread(descriptor, HEADER_BYTES, offset)
        is_ended = os.pread(descriptor, 2, offset + size - 2) == END_OF_IMAGE
    except OSError:  # of a FIFO or a folder that took the file's place, say
        return None
    return accept_header(start, size) if is_ended else None


def _read(descriptor: int, offset: int, size: int) -> bytes:
    """Read that many bytes, or as many as there are: nearly always in one call."""
    data = os.pread(descriptor, size, offset)
    while len(data) < size and (more := os.pread(descriptor, size - len(data), offset + len(data))):
        data += more
    return data


def _find_target_outside(root: Path, file: Path) -> Path | None:
    """Return where the file really is if that is not below `root`."""
    real = file.resolve()
    return None if real.is_relative_to(root) else real


def _explain_missing(file: Path, error: OSError | ValueError) -> str:
    if isinstance(error, PermissionError):
        return "cannot be reached: permission denied → make its folder readable"
    try:
        target = file.readlink()
    except (OSError, ValueError):
        return "is missing → put the image there, or take its line out of the list"
    fault = "leads in a circle" if getattr(error, "errno", None) == errno.ELOOP else "does not exist"
    return f"is a symbolic link to {target}, which {fault} → mend the link"


def _kind(mode: int) -> str:
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(mode), "a device")
