"""Lists the files below the split folders with their sizes and modification times, without opening them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from resnet50_pipeline.exceptions import DatasetError
from resnet50_pipeline.imagenet import folder_walk
from resnet50_pipeline.imagenet.folder_walk import NOT_A_FILE, SYSTEM_FOLDERS, FoundFiles, walk_folders
from resnet50_pipeline.progress import show_activity

# With fewer folders per process, starting another process costs more time than it saves.
_MIN_FOLDERS_PER_WALKER = 100
_MAX_WALKERS = 8


@dataclass(frozen=True, eq=False)
class WalkedFiles:
    """All files, links and special files below the split folders, in no particular order.

    Attributes:
        paths: [N] strings, relative to the dataset root.
        sizes: [N] int64, bytes.
        mtimes: [N] int64, nanoseconds since 1970; -1 for links, FIFOs and devices.
        inodes: [N] int64, inode numbers; 0 for images in archives.
        archives: archives of the images that are not separate files.
        file_numbers: [N] int32, index into `archives`; -1 for a separate file.
        offsets: [N] int64, position of the first byte within the archive; 0 for a separate file.
    """

    paths: pa.LargeStringArray
    sizes: NDArray[np.int64]
    mtimes: NDArray[np.int64]
    inodes: NDArray[np.int64]
    archives: tuple[Path, ...]
    file_numbers: NDArray[np.int32]
    offsets: NDArray[np.int64]

    @property
    def is_file(self) -> NDArray[np.bool_]:
        """[N] bool: True for regular files below the root that are reached without following a link."""
        return np.not_equal(self.mtimes, NOT_A_FILE)


def walk_splits(root: Path, splits: Sequence[str], workers: int) -> WalkedFiles:
    """Walk the split folders of a dataset and stat every file. No file is opened.

    Args:
        root: dataset root, with symbolic links resolved.
        splits: names of the split folders; "" for the files directly in the root. If a split folder is a symbolic link,
            its files do not count as regular files, so the scan checks each file separately.
        workers: maximum number of walker processes.

    Raises:
        DatasetError: if a folder cannot be read.
    """
    try:
        with show_activity("listing the files"):
            parts = [_walk_split(root, split, workers) for split in splits]
    except OSError as error:
        raise DatasetError(f"{error.filename or root}: {error.strerror} → make the folder readable") from error
    names = b"\0".join(part[0] for part in parts if part[0])
    # `np.concatenate` needs at least one array, even if there are no splits.
    nothing = np.zeros(0, np.int64)
    sizes, mtimes, inodes = (np.concatenate([nothing, *(part[index] for part in parts)]) for index in (1, 2, 3))
    count = len(sizes)
    loose = np.full(count, -1, np.int32)
    return WalkedFiles(split_at_nul(names, count), sizes, mtimes, inodes, (), loose, np.zeros(count, np.int64))


def find_top_folders(root: Path, paths: Iterable[str]) -> list[str]:
    """Return the existing top-level folders of the images. "" represents images directly in `root`."""
    folders = {path.partition("/")[0] if "/" in path else "" for path in paths}
    return sorted(folder for folder in folders if (root / folder).is_dir())


_Part = tuple[bytes, NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]


def _walk_split(root: Path, split: str, workers: int) -> _Part:
    base = f"{root}/"
    names: list[str] = []
    if split:
        with os.scandir(root / split) as entries:
            names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    folders = [f"{split}/{name}/" for name in names if name not in SYSTEM_FOLDERS]
    folders.sort()
    workers = min(workers, _MAX_WALKERS, len(folders) // _MIN_FOLDERS_PER_WALKER)
    walkers = [_start_walker(base, folders[number::workers]) for number in range(workers)] if workers > 1 else []
    top = FoundFiles()
    _add_top_level_files(root, split, top)
    if not walkers:
        walk_folders(base, folders, top)
    parts = [_parse_packed(top.pack()), *(_finish_walker(walker) for walker in walkers)]
    sizes, mtimes, inodes = (np.concatenate([part[index] for part in parts]) for index in (1, 2, 3))
    if (root / split).is_symlink():
        mtimes = np.full_like(mtimes, NOT_A_FILE)
    return b"\0".join(part[0] for part in parts if part[0]), sizes, mtimes, inodes


def _add_top_level_files(root: Path, split: str, found: FoundFiles) -> None:
    """Add the files directly in the split folder, such as the images of ImageNet's flat val/."""
    with os.scandir(root / split) as entries:
        others = [entry for entry in entries if not entry.is_dir(follow_symlinks=False)]
    statuses = [entry.stat(follow_symlinks=False) for entry in others]
    found.add(f"{split}/" if split else "", [entry.name for entry in others], statuses)


def _start_walker(base: str, folders: Sequence[str]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-I", "-S", folder_walk.__file__, base]
    walker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert walker.stdin is not None  # noqa: S101 - it is a pipe
    walker.stdin.write(os.fsencode("\0".join(folders)))
    walker.stdin.close()
    walker.stdin = None
    return walker


def _finish_walker(walker: subprocess.Popen[bytes]) -> _Part:
    packed, errors = walker.communicate()
    if walker.returncode != 0:
        last = errors.decode(errors="replace").strip().rpartition("\n")[2] or f"exit code {walker.returncode}"
        raise DatasetError(f"the dataset folders cannot be read: {last} → make the folders readable")
    return _parse_packed(packed)


def _parse_packed(packed: bytes) -> _Part:
    """Parse the bytes that `FoundFiles.pack` returned."""
    names_length, count = np.frombuffer(packed, np.int64, 2).tolist()
    sizes, mtimes, inodes = (
        np.frombuffer(packed, np.int64, count, 16 + names_length + 8 * count * column) for column in range(3)
    )
    return packed[16 : 16 + names_length], sizes, mtimes, inodes


def split_at_nul(names: bytes, count: int) -> pa.LargeStringArray:
    r"""Split NUL-separated names into an array. Bytes that are not valid UTF-8 become \xNN escapes."""
    if not count:
        return pa.array([], pa.large_string())
    try:
        names.decode()
    except UnicodeDecodeError:
        names = names.decode(errors="backslashreplace").encode()
    data = np.frombuffer(names + b"\0", np.uint8)
    offsets = np.zeros(count + 1, np.int64)
    offsets[1:] = np.flatnonzero(data == 0) - np.arange(count)
    return pa.LargeStringArray.from_buffers(count, pa.py_buffer(offsets), pa.py_buffer(data[data != 0]))
