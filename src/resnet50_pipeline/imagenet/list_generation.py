"""Lists that are made from the folders, for data sets that come without: sorted by label and path."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from resnet50_pipeline.exceptions import ListFileError
from resnet50_pipeline.imagenet.ground_truth import assign_images, read_ground_truth
from resnet50_pipeline.imagenet.list_files import ListEntries, PrefixedList, Split, parse_list, prefix_list
from resnet50_pipeline.imagenet.list_problems import shown

IMAGE_SUFFIXES = frozenset({".jpeg", ".jpg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif"})


def find_class_folders(split_folder: Path) -> list[str]:
    """Return the names of the class folders, sorted: a class's place in train/'s is its label. Hidden ones are none."""
    with os.scandir(split_folder) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))


def number_classes(train_folder: Path, class_num: int) -> dict[str, int]:
    """Return the label of each class folder of train/.

    Raises:
        ListFileError: there are more or fewer than `class_num`.
    """
    folders = find_class_folders(train_folder)
    if len(folders) != class_num:
        names = ", ".join([*folders[:3], "…"] if len(folders) > 3 else folders)
        raise ListFileError(
            [
                f"{train_folder}: has {len(folders)} class folders ({names}), but dataset.class_num is {class_num} → "
                "correct dataset.class_num, or the folders"
            ]
        )
    return {name: label for label, name in enumerate(folders)}


def find_folder_labels(entries: ListEntries) -> dict[str, int]:
    """Return the label that the first image of each class folder has in a given train list."""
    labels: dict[str, int] = {}
    for path, label in zip(entries.paths, entries.labels.tolist(), strict=True):
        _, separator, inner = path.partition("/")
        folder, separator, _ = inner.partition("/")
        if separator:
            labels.setdefault(folder, label)
    return labels


def list_folders(root: Path, split: Split, class_num: int, labels: Mapping[str, int]) -> PrefixedList:
    """Return the list of a split whose images lie in class folders.

    Args:
        root: dataset folder.
        split: whose list is made.
        class_num: number of classes.
        labels: by class folder.

    Raises:
        ListFileError: a folder is no class, or images have names that a list cannot hold.
    """
    folder = root / split
    folders = find_class_folders(folder)
    strange = [name for name in folders if name not in labels]
    if strange:
        raise ListFileError(
            [
                f"{folder / name}: is no class of train/ → move the folder away, or add the class to train/"
                for name in strange
            ]
        )
    rows = ((labels[name], f"{name}/{image}") for name in folders for image in _find_images(folder / name))
    # Many class folders and none with a name that asks for sorting by label: sorted() sees runs and is done in a pass.
    notice = f"there was none: it was made from the {len(folders)} class folders of {split}/, sorted by label and path"
    return _make_list(rows, split, class_num, f"{folder} (list made from its folders)", notice)


def list_ground_truth(
    root: Path, ground_truth: Path, meta: Path | None, class_num: int, labels: Mapping[str, int]
) -> PrefixedList:
    """Return the list of val/ by a file that has the class of each image; no image is moved or opened.

    Args:
        root: dataset folder.
        ground_truth: in one of the forms of `imagenet.ground_truth`.
        meta: the devkit's meta.mat, if it does not lie beside `ground_truth`.
        class_num: number of classes.
        labels: by synset.

    Raises:
        DatasetError: as `read_ground_truth` and `assign_images`.
    """
    folder = root / "val"
    truth = read_ground_truth(ground_truth, meta)
    images = [*_find_images(folder)]
    images += [f"{name}/{image}" for name in find_class_folders(folder) for image in _find_images(folder / name)]
    rows = assign_images(truth, images, labels)
    notice = f"the list was made from {ground_truth.name}, sorted by label and path"
    return _make_list(rows, "val", class_num, f"{folder} (list made from {ground_truth.name})", notice)


def _find_images(folder: Path) -> Iterator[str]:
    """Yield the names of the image files in `folder` itself, whatever kind of file they are: the scan looks at that."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.startswith(".") and os.path.splitext(entry.name)[1].lower() in IMAGE_SUFFIXES:  # noqa: PTH122 - a million times
                yield entry.name


def _make_list(rows: Iterable[tuple[int, str]], split: Split, class_num: int, source: str, notice: str) -> PrefixedList:
    """Return a list of (label, path below the split's folder), held against the same rules as one that is given."""
    ordered = sorted(rows)
    problems = [
        f"{source}: {shown(path)}: a line end in the path → rename the image" for _, path in ordered if "\n" in path
    ]
    if problems:
        raise ListFileError(problems)
    text = "".join([f"{split}/{path} {label}\n" for label, path in ordered])
    # Bytes of a name that are not UTF-8 go through, for parse_list to name them.
    prefixed = prefix_list(parse_list(text.encode("utf-8", "surrogateescape"), class_num, source=source), split)
    return replace(prefixed, entries=replace(prefixed.entries, notices=(notice,)))
