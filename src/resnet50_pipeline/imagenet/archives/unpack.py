"""Unpacks ImageNet's archives into a dataset folder. A class folder appears only once it is complete."""

from __future__ import annotations

import ctypes
import logging
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from resnet50_pipeline.exceptions import DatasetError
from resnet50_pipeline.files import claiming_folder
from resnet50_pipeline.imagenet.archives.images import require_class_archive
from resnet50_pipeline.imagenet.archives.parts import ArchivePart, find_archive_parts, iterate_images, list_images
from resnet50_pipeline.imagenet.lists.files import Split
from resnet50_pipeline.imagenet.walk import walk_splits
from resnet50_pipeline.progress import show_progress
from resnet50_pipeline.text import format_bytes, pluralize

logger = logging.getLogger(__name__)

# Prefix for incomplete folders. Hidden folders are never treated as classes.
_STAGED_PREFIX = ".unpacking-"
_MAX_DIFFERENCES_NAMED = 3


@dataclass(frozen=True)
class UnpackedArchives:
    """Counts of unpacked images and folders.

    Attributes:
        images: number of images unpacked by this call.
        folders: number of folders unpacked by this call.
        existing_folders: number of folders skipped because they already contained the archive's files.
    """

    images: int
    folders: int
    existing_folders: int


def unpack_archives(root: Path, archives: Mapping[Split, Path]) -> UnpackedArchives:
    """Unpack archives to `root/train/<synset>/….JPEG` and `root/val/….JPEG`.

    Each class folder (and val/, which is flat) is written under a temporary name, flushed to disk and then renamed, so
    an interrupted call can be repeated. Existing folders stay unchanged, but their file names and sizes must match the
    archive.

    Args:
        root: dataset folder, which is created if needed.
        archives: archives, keyed by split; see `find_archive_parts`.

    Raises:
        DatasetError: if an archive is damaged or has a member that would escape the folder, if a folder already
            contains different files, or if the disk has too little free space. The incomplete class folder is removed.
        OutputDirectoryInUseError: if another process is unpacking to `root`.
    """
    parts = {split: find_archive_parts(path) for split, path in archives.items()}
    root.mkdir(parents=True, exist_ok=True)
    with claiming_folder(root, "is unpacking to it"):
        for split in parts:
            _remove_incomplete_folders(root, split)
        missing = []
        for split, split_parts in parts.items():
            if split == "train":
                require_class_archive(split_parts[0])
            missing += [(split, part) for part in split_parts if not _is_unpacked(root, split, part)]
        _require_space(root, [part for _, part in missing])
        with show_progress(sum(part.size for _, part in missing), what="unpacking", unit="bytes") as advance:
            images = sum(_unpack_part(root, split, part, advance) for split, part in missing)
    return UnpackedArchives(images, len(missing), sum(len(found) for found in parts.values()) - len(missing))


def ensure_loose_images(
    root: Path, archives: Mapping[Split, Path], manifest: pd.DataFrame, *, is_unpacking: bool
) -> None:
    """Require that the listed images in the archives also exist as separate files below `root`.

    Training and evaluation read these files, not the archives.

    Args:
        root: dataset folder.
        archives: archives, keyed by split; splits without an archive are not checked.
        manifest: columns split, path, bytes and status, from a scan of the archives.
        is_unpacking: whether to unpack the archives first.

    Raises:
        DatasetError: if an image is missing or has a different size; the message includes the commands for unpacking.
            Also raised for the same reasons as in `unpack_archives`.
    """
    if not archives:
        return
    if is_unpacking:
        done = unpack_archives(root, archives)
        logger.info(
            "unpacked %s; skipped %s",
            pluralize(done.images, "image"),
            pluralize(done.existing_folders, "existing folder"),
        )
    listed = manifest[(manifest["status"] == "ok") & manifest["split"].isin(list(archives))]
    there = [split for split in archives if (root / split).is_dir()]
    walked = walk_splits(root.resolve(), there, workers=0) if there else None
    missing = len(listed)
    if walked is not None:
        walk_index = pc.index_in(pa.array(listed["path"], pa.large_string()), walked.paths).fill_null(-1).to_numpy()
        is_there = walk_index >= 0
        if len(walked.sizes):
            is_there &= walked.is_file[walk_index] & (walked.sizes[walk_index] == listed["bytes"].to_numpy(np.int64))
        missing = len(listed) - int(is_there.sum())
    if missing:
        options = " ".join(f"--{split} {path}" for split, path in archives.items())
        raise DatasetError(
            f"{root}: {missing:,} of {len(listed):,} images in the archives are missing from this folder or have a "
            "different size, but training and evaluation read the folder → set dataset.unpack: true "
            f"({format_bytes(listed['bytes'].sum())}), run `kedro unpack {options} --root {root}`, or pack the images "
            "unchanged into shards (data_preparation.shards.mode: original)"
        )


def _unpack_part(root: Path, split: Split, part: ArchivePart, advance: Callable[[int], None]) -> int:
    """Write the images in a part to a hidden folder, rename it, and return the number of images.

    The rename is atomic, so a killed process never leaves an incomplete class folder.
    """
    target = _target_folder(root, split, part)
    staged = target.with_name(_STAGED_PREFIX + target.name)
    target.parent.mkdir(exist_ok=True)
    staged.mkdir()
    try:
        count = 0
        for member, data in iterate_images(part):
            file = staged / member.name.removeprefix(f"{part.folder}/")
            # The names have been checked and the folder was empty, so no component can be a link to another folder.
            file.parent.mkdir(exist_ok=True)
            with file.open("xb") as opened:
                opened.write(data)
            # Restore the modification time from the archive, as `tar` does. Scans then treat the file as unchanged.
            os.utime(file, ns=(member.mtime_ns, member.mtime_ns))
            count += 1
            advance(len(data))
        _flush_file_system(staged)
        staged.rename(target)
    except OSError as error:
        shutil.rmtree(staged)
        raise DatasetError(
            f"{target} cannot be written: {error.strerror} → fix the cause and run the command again"
        ) from error
    except BaseException:
        shutil.rmtree(staged)
        raise
    return count


def _is_unpacked(root: Path, split: Split, part: ArchivePart) -> bool:
    """Return whether the folder of a part already contains its files.

    Raises:
        DatasetError: if the files in the folder differ from the files in the archive.
    """
    target = _target_folder(root, split, part)
    if target.is_symlink():
        raise DatasetError(
            f"{target} is a symbolic link to {target.readlink()} → unpack to a folder that is not a link"
        )
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return False  # the rename replaces an empty folder
    expected = {member.name.removeprefix(f"{part.folder}/"): member.size for member in list_images(part)}
    found = _measure_files(target) if target.is_dir() else {}
    if found == expected:
        return True
    differing = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    examples = ", ".join(differing[:_MAX_DIFFERENCES_NAMED]) + (
        ", …" if len(differing) > _MAX_DIFFERENCES_NAMED else ""
    )
    raise DatasetError(
        f"{target} already exists but differs from {part.display_name} in {len(differing)} of "
        f"{len(expected.keys() | found.keys())} files ({examples}) → move the folder elsewhere, or unpack into a "
        "different folder"
    )


def _measure_files(folder: Path) -> dict[str, int]:
    """Return the size of each file below `folder`, keyed by relative path. Links and special files get size -1."""
    sizes: dict[str, int] = {}
    for parent, _, names in os.walk(folder):
        for name in names:
            path = Path(parent) / name
            is_plain = path.is_file() and not path.is_symlink()
            sizes[path.relative_to(folder).as_posix()] = path.stat().st_size if is_plain else -1
    return sizes


def _target_folder(root: Path, split: Split, part: ArchivePart) -> Path:
    return root / split / part.folder if part.folder else root / split


def _require_space(root: Path, parts: Sequence[ArchivePart]) -> None:
    needed, free = sum(part.size for part in parts), shutil.disk_usage(root).free
    if needed > free:
        raise DatasetError(
            f"{root}: unpacking needs {format_bytes(needed)}, but only {format_bytes(free)} is free → free up space, "
            "or choose another disk"
        )


def _remove_incomplete_folders(root: Path, split: Split) -> None:
    """Delete the incomplete folders that a killed run left behind."""
    if (root / split).is_symlink():
        raise DatasetError(
            f"{root / split} is a symbolic link to {(root / split).readlink()} → unpack to a folder that is not a link"
        )
    for folder in (root, root / split):
        for staged in folder.glob(f"{_STAGED_PREFIX}*") if folder.is_dir() else ():
            shutil.rmtree(staged)


def _flush_file_system(folder: Path) -> None:
    """Flush the entire file system with one syncfs call, instead of one fsync per file.

    Call this before the rename that marks the folder as complete.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if libc.syncfs(descriptor) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    finally:
        os.close(descriptor)
