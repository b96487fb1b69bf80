"""Generates lists, sorted by label and path, for datasets without list files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from unicodedata import is_normalized, normalize

from resnet50_pipeline.exceptions import ListFileError
from resnet50_pipeline.imagenet.lists.files import ListEntries, PrefixedList, Split, choose_delimiter, parse_list
from resnet50_pipeline.imagenet.lists.ground_truth import assign_images, read_ground_truth
from resnet50_pipeline.imagenet.lists.problems import quote
from resnet50_pipeline.imagenet.lists.split_images import SplitImages
from resnet50_pipeline.text import natural_key, pluralize

IMAGE_SUFFIXES = frozenset({".jpeg", ".jpg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif"})


def number_classes(train: SplitImages, class_num: int | None) -> dict[str, int]:
    """Return the label of each class folder in train/: its position among the sorted folder names.

    Raises:
        ListFileError: if `class_num` is given and differs from the number of class folders.
    """
    folders = train.list_class_folders()
    if class_num is not None and len(folders) != class_num:
        names = ", ".join([*folders[:3], "…"] if len(folders) > 3 else folders)
        raise ListFileError(
            [
                f"{train.display_name} has {pluralize(len(folders), 'class folder')} ({names}), but "
                f"dataset.class_num is {class_num} → correct dataset.class_num or the folders"
            ]
        )
    return {name: label for label, name in enumerate(folders)}


def find_folder_labels(entries: ListEntries) -> dict[str, int]:
    """Return the label of each class folder: the label of its first image in a given train list."""
    labels: dict[str, int] = {}
    for path, label in zip(entries.paths, entries.labels.tolist(), strict=True):
        _, separator, inner = path.partition("/")
        folder, separator, _ = inner.partition("/")
        if separator:
            labels.setdefault(folder, label)
    return labels


def list_folders(images: SplitImages, split: Split, class_num: int | None, labels: Mapping[str, int]) -> PrefixedList:
    """Generate the list of a split from its class folders.

    Args:
        images: images in the split.
        split: split of the list.
        class_num: number of classes; None derives it from the lists.
        labels: labels, keyed by class folder.

    Raises:
        ListFileError: if a folder is not a class, no folder contains an image, or an image's name cannot be
            represented in a list.
    """
    folders = images.list_class_folders()
    if not folders:
        raise ListFileError(
            [
                f"{images.display_name} has no class folders to generate the {split} list from → set "
                f"dataset.{split}_list, or (for val/) dataset.val_ground_truth"
            ]
        )
    strange = [name for name in folders if name not in labels]
    if strange:
        in_form = {normalize("NFC", name): name for name in labels}
        raise ListFileError(
            [
                f"{images.display_name}/{name} has the same name as the class {in_form[normalize('NFC', name)]} in "
                f"train/, but in another Unicode form ({'NFC' if is_normalized('NFC', name) else 'NFD'}) → rename one "
                "of the two folders"
                if normalize("NFC", name) in in_form
                else f"{images.display_name}/{name} is not a class in train/ → move the folder elsewhere, or add the "
                "class to train/"
                for name in strange
            ]
        )
    rows = [(labels[name], f"{name}/{image}") for name in folders for image in _find_images(images, name)]
    if not rows:
        raise ListFileError([f"{images.display_name}: {_explain_no_images(images, folders)}"])
    # The rows are almost sorted, because class folders come in label order. `sorted` is fast on such input.
    notice = (
        f"there is no list file, so images are listed from {pluralize(len(folders), 'class folder')} in {split}/, "
        "sorted by label and path"
    )
    notices = (notice, *_describe_number_order(folders)) if split == "train" else (notice,)
    return _make_list(rows, split, class_num, f"{images.display_name} (list generated from its folders)", notices)


def list_ground_truth(
    images: SplitImages, ground_truth: Path, meta: Path | None, class_num: int | None, labels: Mapping[str, int]
) -> PrefixedList:
    """Generate the val list from a ground truth file, without moving or opening images.

    Args:
        images: images of val/.
        ground_truth: file in one of the formats that `lists.ground_truth` reads.
        meta: the devkit's meta.mat; None if it is in the folder of `ground_truth`.
        class_num: number of classes; None derives it from the lists.
        labels: labels, keyed by synset.

    Raises:
        DatasetError: for the same reasons as `read_ground_truth` and `assign_images`.
    """
    truth = read_ground_truth(ground_truth, meta)
    paths = [*_find_images(images)]
    paths += [f"{name}/{image}" for name in images.list_class_folders() for image in _find_images(images, name)]
    rows = assign_images(truth, paths, labels)
    notice = f"images are listed from {ground_truth.name}, sorted by label and path"
    return _make_list(
        rows, "val", class_num, f"{images.display_name} (list generated from {ground_truth.name})", (notice,)
    )


def _explain_no_images(images: SplitImages, folders: Sequence[str]) -> str:
    """Explain why no class folder contains a usable image."""
    for folder in folders:
        if inner := sorted(images.find_nested_images(folder)):
            return (
                f"the class folders contain images only in subfolders, such as {folder}/{inner[0]} → move the images "
                "up into their class folders, or write list files"
            )
    for folder in folders:
        if names := sorted(images.list_file_names(folder)):
            return (
                f"no file in a class folder has an image suffix ({', '.join(sorted(IMAGE_SUFFIXES))}); the first file "
                f"is {folder}/{names[0]} → rename the images, or write list files"
            )
    return f"there are no files in the {pluralize(len(folders), 'class folder')} → copy the images there"


def _describe_number_order(folders: Sequence[str]) -> Iterator[str]:
    """Yield a notice if sorting the class folders numerically would change their order."""
    by_number = sorted(folders, key=natural_key)
    if by_number == list(folders):
        return
    label = next(label for label, (one, two) in enumerate(zip(folders, by_number, strict=True)) if one != two)
    yield (
        f"class folders are numbered in text order, not numeric order: label {label} is the folder {folders[label]}, "
        f"and the folder {by_number[label]} has label {folders.index(by_number[label])}. If you use weights trained "
        "with labels in numeric order, write list files"
    )


def is_image_name(name: str) -> bool:
    """Return whether a file name has an image suffix and is not hidden."""
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES  # noqa: PTH122


def _find_images(images: SplitImages, folder: str = "") -> Iterator[str]:
    """Yield the names of the image files in a class folder, or directly in the split folder by default."""
    for name in images.list_file_names(folder):
        if is_image_name(name):
            yield name


def _make_list(
    rows: Iterable[tuple[int, str]], split: Split, class_num: int | None, source: str, notices: tuple[str, ...]
) -> PrefixedList:
    """Build a list from labels and paths below the split's folder, and check it like a list from the user."""
    ordered = sorted(rows)
    problems = [
        f"{source}: {quote(path)} contains a line break → rename the image" for _, path in ordered if "\n" in path
    ]
    if problems:
        raise ListFileError(problems)
    delimiter = choose_delimiter(path for _, path in ordered)
    text = "".join([f"{split}/{path}{delimiter}{label}\n" for label, path in ordered])
    # `surrogateescape` preserves bytes that are not UTF-8, so that parse_list can report them.
    entries = parse_list(text.encode("utf-8", "surrogateescape"), class_num, source=source)
    return PrefixedList(replace(entries, notices=notices), added_count=0, is_generated=True)
