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
from resnet50_pipeline.imagenet.split_images import SplitImages

IMAGE_SUFFIXES = frozenset({".jpeg", ".jpg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif"})


def number_classes(train: SplitImages, class_num: int) -> dict[str, int]:
    """Return the label of each class folder of train/.

    Raises:
        ListFileError: there are more or fewer than `class_num`.
    """
    folders = train.find_class_folders()
    if len(folders) != class_num:
        names = ", ".join([*folders[:3], "…"] if len(folders) > 3 else folders)
        raise ListFileError(
            [
                f"{train.place}: has {len(folders)} class folders ({names}), but dataset.class_num is {class_num} → "
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


def list_folders(images: SplitImages, split: Split, class_num: int, labels: Mapping[str, int]) -> PrefixedList:
    """Return the list of a split whose images lie in class folders.

    Args:
        images: of the split.
        split: whose list is made.
        class_num: number of classes.
        labels: by class folder.

    Raises:
        ListFileError: a folder is no class, or images have names that a list cannot hold.
    """
    folders = images.find_class_folders()
    if not folders:
        raise ListFileError(
            [
                f"{images.place}: has no class folders to make a list of {split}/ from → set dataset.{split}_list, or "
                "(for val/) dataset.val_ground_truth"
            ]
        )
    strange = [name for name in folders if name not in labels]
    if strange:
        raise ListFileError(
            [
                f"{images.place}/{name}: is no class of train/ → move the folder away, or add the class to train/"
                for name in strange
            ]
        )
    rows = ((labels[name], f"{name}/{image}") for name in folders for image in _find_images(images, name))
    # Many class folders and none with a name that asks for sorting by label: sorted() sees runs and is done in a pass.
    notice = f"there was none: it was made from the {len(folders)} class folders of {split}/, sorted by label and path"
    return _make_list(rows, split, class_num, f"{images.place} (list made from its folders)", notice)


def list_ground_truth(
    images: SplitImages, ground_truth: Path, meta: Path | None, class_num: int, labels: Mapping[str, int]
) -> PrefixedList:
    """Return the list of val/ by a file that has the class of each image; no image is moved or opened.

    Args:
        images: of val/.
        ground_truth: in one of the forms of `imagenet.ground_truth`.
        meta: the devkit's meta.mat, if it does not lie beside `ground_truth`.
        class_num: number of classes.
        labels: by synset.

    Raises:
        DatasetError: as `read_ground_truth` and `assign_images`.
    """
    truth = read_ground_truth(ground_truth, meta)
    paths = [*_find_images(images)]
    paths += [f"{name}/{image}" for name in images.find_class_folders() for image in _find_images(images, name)]
    rows = assign_images(truth, paths, labels)
    notice = f"the list was made from {ground_truth.name}, sorted by label and path"
    return _make_list(rows, "val", class_num, f"{images.place} (list made from {ground_truth.name})", notice)


def _find_images(images: SplitImages, folder: str = "") -> Iterator[str]:
    """Yield the names of the image files in a class folder, or in none."""
    for name in images.find_names(folder):
        if not name.startswith(".") and os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES:  # noqa: PTH122 - a million times
            yield name


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
