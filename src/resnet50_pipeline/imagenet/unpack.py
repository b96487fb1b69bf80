"""Unpacks ImageNet's archives to the layout of a dataset folder: a class appears whole, or not at all."""

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
from resnet50_pipeline.imagenet.archived_images import require_class_archive
from resnet50_pipeline.imagenet.archives import ArchivePart, find_archive_parts, iterate_part, list_part
from resnet50_pipeline.imagenet.list_files import Split
from resnet50_pipeline.imagenet.walk import walk_splits
from resnet50_pipeline.progress import show_progress

logger = logging.getLogger(__name__)

# Folders that are being filled. Hidden, so that nobody takes them for a class.
_STAGED_PREFIX = ".unpacking-"
_DIFFERENCES_SHOWN = 3


@dataclass(frozen=True)
class UnpackedArchives:
    """What was done.

    Attributes:
        images: unpacked now.
        folders: unpacked now.
        folders_before: that were there already, with the archive's names and sizes.
    """

    images: int
    folders: int
    folders_before: int


def unpack_archives(root: Path, archives: Mapping[Split, Path]) -> UnpackedArchives:
    """Unpack archives to `root/train/<synset>/….JPEG` and `root/val/….JPEG`.

    A class (and val/, which is flat) is written aside, flushed to disk and renamed, so whatever ends this, it can be
    started again: what is there by then is compared with the archive by names and sizes, and left.

    Args:
        root: dataset folder; is made.
        archives: by split, see `find_archive_parts`.

    Raises:
        DatasetError: an archive is damaged, or has a member that could be written elsewhere; a folder is there with
            other files; the disk is too small. Of the class that was being unpacked nothing is left.
        OutputDirectoryInUseError: another process unpacks to `root`.
    """
    parts = {split: find_archive_parts(path) for split, path in archives.items()}
    root.mkdir(parents=True, exist_ok=True)
    with claiming_folder(root, "unpacks to it"):
        for split in parts:
            _clear(root, split)
        missing = []
        for split, split_parts in parts.items():
            if split == "train":
                require_class_archive(split_parts[0])
            missing += [(split, part) for part in split_parts if not _is_unpacked(root, split, part)]
        _require_space(root, [part for _, part in missing])
        with show_progress(sum(part.size for _, part in missing), what="unpacking", unit="bytes") as advance:
            images = sum(_unpack_part(root, split, part, advance) for split, part in missing)
    return UnpackedArchives(images, len(missing), sum(len(found) for found in parts.values()) - len(missing))


def provide_loose_images(
    root: Path, archives: Mapping[Split, Path], manifest: pd.DataFrame, *, is_unpacking: bool
) -> None:
    """Make sure that every listed image of a split that was read from an archive is a file below `root` as well.

    Training and evaluation read loose files.

    Args:
        root: dataset folder.
        archives: by split; of the others, nothing is looked at.
        manifest: with the columns split, path, bytes and status; as the archives were scanned.
        is_unpacking: whether they are unpacked now.

    Raises:
        DatasetError: an image is not there, or has another size; with the commands that unpack. As `unpack_archives`.
    """
    if not archives:
        return
    if is_unpacking:
        done = unpack_archives(root, archives)
        logger.info("unpacked %d images, %d folders were there already", done.images, done.folders_before)
    listed = manifest[(manifest["status"] == "ok") & manifest["split"].isin(list(archives))]
    there = [split for split in archives if (root / split).is_dir()]
    walked = walk_splits(root.resolve(), there, workers=0) if there else None
    missing = len(listed)
    if walked is not None:
        place = pc.index_in(pa.array(listed["path"], pa.large_string()), walked.paths).fill_null(-1).to_numpy()
        is_there = place >= 0
        if len(walked.sizes):
            is_there &= walked.is_file[place] & (walked.sizes[place] == listed["bytes"].to_numpy(np.int64))
        missing = len(listed) - int(is_there.sum())
    if missing:
        options = " ".join(f"--{split} {path}" for split, path in archives.items())
        raise DatasetError(
            f"{missing:,} of {len(listed):,} images that were validated in their archives are not below {root}, from "
            "where training and evaluation read, or have another size there → set dataset.unpack: true "
            f"({listed['bytes'].sum() / 1e9:.1f} GB), or unpack them yourself: `kedro unpack {options} --root {root}`, "
            "or pack them as they are: data_preparation.shards.mode: original"
        )


def _unpack_part(root: Path, split: Split, part: ArchivePart, advance: Callable[[int], None]) -> int:
    """Write the images of a part aside, then rename the folder; return how many there are."""
    target = _target(root, split, part)
    staged = target.with_name(_STAGED_PREFIX + target.name)
    target.parent.mkdir(exist_ok=True)
    staged.mkdir()
    try:
        count = 0
        for member, data in iterate_part(part):
            file = staged / member.name.removeprefix(f"{part.folder}/")
            # Names were checked; and of a folder that was empty a moment ago, nothing can be a link to elsewhere.
            file.parent.mkdir(exist_ok=True)
            with file.open("xb") as opened:
                opened.write(data)
            # As `tar` does: what was found out about the archive's image is that of a file of the same time.
            os.utime(file, ns=(member.mtime_ns, member.mtime_ns))
            count += 1
            advance(len(data))
        _flush_file_system(staged)
        staged.rename(target)
    except OSError as error:
        shutil.rmtree(staged)
        raise DatasetError(
            f"{target}: cannot be written: {error.strerror} → start again when that is mended"
        ) from error
    except BaseException:
        shutil.rmtree(staged)
        raise
    return count


def _is_unpacked(root: Path, split: Split, part: ArchivePart) -> bool:
    """Tell whether the folder of a part is there; make sure then that it has the files of the archive.

    Raises:
        DatasetError: it has others.
    """
    target = _target(root, split, part)
    if target.is_symlink():
        raise DatasetError(f"{target}: is a symbolic link to {target.readlink()} → unpack to a folder that is none")
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return False  # a rename takes the place of an empty folder
    expected = {member.name.removeprefix(f"{part.folder}/"): member.size for member in list_part(part)}
    found = _sizes(target) if target.is_dir() else {}
    if found == expected:
        return True
    differing = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    shown = ", ".join(differing[:_DIFFERENCES_SHOWN]) + (", …" if len(differing) > _DIFFERENCES_SHOWN else "")
    raise DatasetError(
        f"{target}: is there already, and {len(differing)} of its files are not those of {part.place} ({shown}) → move "
        "the folder away, or unpack elsewhere"
    )


def _sizes(folder: Path) -> dict[str, int]:
    """Return the size of each file below `folder`, by path relative to it; links and the like count as size -1."""
    sizes: dict[str, int] = {}
    for parent, _, names in os.walk(folder):
        for name in names:
            path = Path(parent) / name
            is_plain = path.is_file() and not path.is_symlink()
            sizes[path.relative_to(folder).as_posix()] = path.stat().st_size if is_plain else -1
    return sizes


def _target(root: Path, split: Split, part: ArchivePart) -> Path:
    return root / split / part.folder if part.folder else root / split


def _require_space(root: Path, parts: Sequence[ArchivePart]) -> None:
    needed, free = sum(part.size for part in parts), shutil.disk_usage(root).free
    if needed > free:
        raise DatasetError(
            f"{root}: {needed / 1e9:.1f} GB are to be unpacked, and {free / 1e9:.1f} GB are free → make room, or "
            "choose another disk"
        )


def _clear(root: Path, split: Split) -> None:
    """Delete what a killed run left half-filled."""
    if (root / split).is_symlink():
        raise DatasetError(
            f"{root / split}: is a symbolic link to {(root / split).readlink()} → unpack to a folder that is none"
        )
    for folder in (root, root / split):
        for staged in folder.glob(f"{_STAGED_PREFIX}*") if folder.is_dir() else ():
            shutil.rmtree(staged)


def _flush_file_system(folder: Path) -> None:
    """Bring a thousand new files to the disk at once (Linux' syncfs), before a rename says that they are whole."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if libc.syncfs(descriptor) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    finally:
        os.close(descriptor)
