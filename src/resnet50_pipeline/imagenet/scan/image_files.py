"""Inspects images in files and archives. Problems are returned, never raised."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from unicodedata import normalize

from resnet50_pipeline.exceptions import ImageDecodeError
from resnet50_pipeline.imagenet.scan.inspection import (
    HEADER_BYTES,
    Inspection,
    ScanLevel,
    inspect_bytes,
    inspect_header,
    inspect_jpeg_ends,
)
from resnet50_pipeline.imaging.decode import MAX_BYTES, require_file_size
from resnet50_pipeline.imaging.jpeg_stream import END_OF_IMAGE


def inspect_image(root: Path, path: str, level: ScanLevel = "full", *, tiff: bool = False) -> Inspection:
    """Inspect the file at `root / path`, without blocking or opening files outside `root`.

    Args:
        root: dataset root, with symbolic links resolved.
        path: POSIX path relative to `root`.
        level: depth of the inspection.
        tiff: whether to accept TIFF files.
    """
    file = root / path
    try:
        status = file.stat()
    except (OSError, ValueError) as error:
        return Inspection(status="missing", problem=_find_other_form(root, path) or _explain_missing(file, error))
    if not stat.S_ISREG(status.st_mode):
        return Inspection(
            status="not_a_file",
            problem=f"is {_describe_kind(status.st_mode)} → replace it with the image, or remove its line",
        )
    if outside := _find_target_outside(root, file):
        return Inspection(
            bytes=status.st_size,
            status="outside_root",
            problem=f"resolves to {outside}, outside the dataset root → copy the image into the dataset folder",
        )
    return inspect_file(file, level, tiff=tiff) if level != "structure" else Inspection(bytes=status.st_size)


def inspect_file(file: str | Path, level: ScanLevel, size: int = 0, *, tiff: bool = False) -> Inspection:
    """Inspect a regular file below the dataset root, at the `header` or `full` level.

    Args:
        file: path of the file.
        level: `header` or `full`.
        size: size in bytes, if known from a walk, which saves a system call at the `header` level.
        tiff: whether to accept TIFF files.
    """
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        return Inspection(status="missing", problem=_explain_missing(Path(file), error))
    except OSError as error:
        return Inspection(status="not_a_file", problem=f"cannot be read: {error.strerror} → make it readable")
    try:
        if level == "header" and (found := _inspect_plain_jpeg(descriptor, 0, size)):
            return found
        return _inspect_opened(descriptor, level, tiff=tiff)
    except OSError as error:
        return Inspection(status="not_a_file", problem=f"cannot be read: {error.strerror} → make it readable")
    finally:
        os.close(descriptor)


def inspect_archived(
    archive: str | Path, offsets: Sequence[int], sizes: Sequence[int], level: ScanLevel, *, tiff: bool = False
) -> list[Inspection]:
    """Inspect images in an archive, at the `header` or `full` level.

    Args:
        archive: path of a regular file.
        offsets: [N] position of the first byte of each image.
        sizes: [N] bytes.
        level: `header` or `full`.
        tiff: whether to accept TIFF files.
    """
    try:
        descriptor = os.open(archive, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        problem = f"cannot be read from {archive}: {error.strerror} → make the archive readable"
        return [Inspection(status="not_a_file", problem=problem)] * len(sizes)
    try:
        return [
            _inspect_archived(descriptor, offset, size, level, tiff=tiff)
            for offset, size in zip(offsets, sizes, strict=True)
        ]
    finally:
        os.close(descriptor)


def _inspect_archived(descriptor: int, offset: int, size: int, level: ScanLevel, *, tiff: bool) -> Inspection:
    try:
        return _inspect_bytes_at(descriptor, offset, size, level, tiff=tiff)
    except OSError as error:
        problem = f"cannot be read from its archive: {error.strerror} → copy the archive again"
        return Inspection(status="not_a_file", problem=problem)


def _inspect_opened(descriptor: int, level: ScanLevel, *, tiff: bool) -> Inspection:
    # Only fstat detects that a FIFO or folder has replaced the file since the walk.
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        return Inspection(
            status="not_a_file",
            problem=f"is {_describe_kind(status.st_mode)} → replace it with the image, or remove its line",
        )
    return _inspect_bytes_at(descriptor, 0, status.st_size, level, tiff=tiff)


def _inspect_bytes_at(descriptor: int, offset: int, size: int, level: ScanLevel, *, tiff: bool) -> Inspection:
    """Inspect the `size` bytes at `offset` in an open image file or archive."""
    try:
        require_file_size(size)
    except ImageDecodeError as error:
        return Inspection(bytes=size, status="undecodable", problem=f"{error} → {error.remedy}")
    if level == "header" and (found := _inspect_plain_jpeg(descriptor, offset, size)):
        return found
    data = _read(descriptor, offset, size)
    return inspect_bytes(data, tiff=tiff) if level == "full" else inspect_header(data, tiff=tiff)


def _inspect_plain_jpeg(descriptor: int, offset: int, size: int) -> Inspection | None:
    """Inspect a plain JPEG by its first and last bytes. Return None if the entire file must be read."""
    if not HEADER_BYTES < size <= MAX_BYTES:
        return None
    try:
        start = os.pread(descriptor, HEADER_BYTES, offset)
        is_ended = os.pread(descriptor, 2, offset + size - 2) == END_OF_IMAGE
    except OSError:  # for example, a FIFO or folder has replaced the file
        return None
    return inspect_jpeg_ends(start, size) if is_ended else None


def _read(descriptor: int, offset: int, size: int) -> bytes:
    """Read `size` bytes, or fewer at the end of the file."""
    data = os.pread(descriptor, size, offset)
    while len(data) < size and (more := os.pread(descriptor, size - len(data), offset + len(data))):
        data += more
    return data


def _find_target_outside(root: Path, file: Path) -> Path | None:
    """Return the real path of `file` if it is outside `root`, otherwise None."""
    real = file.resolve()
    return None if real.is_relative_to(root) else real


def _find_other_form(root: Path, path: str) -> str:
    """Return the problem if the path exists only in another Unicode form, otherwise an empty string."""
    for form in ("NFC", "NFD"):
        other = normalize(form, path)
        with contextlib.suppress(OSError, ValueError):
            if other != path and (root / other).exists():
                return (
                    f"exists, but its name on disk has another Unicode form ({form}), as is common on macOS → convert "
                    f"the list to {form}, or rename the file"
                )
    return ""


def _explain_missing(file: Path, error: OSError | ValueError) -> str:
    if isinstance(error, PermissionError):
        return "cannot be reached: permission denied → make the folder readable"
    try:
        target = file.readlink()
    except (OSError, ValueError):
        return "is missing → restore the image, or remove its line"
    fault = "forms a loop" if getattr(error, "errno", None) == errno.ELOOP else "does not exist"
    return f"is a symbolic link to {target}, which {fault} → repair the link"


def _describe_kind(mode: int) -> str:
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(mode), "a device")
