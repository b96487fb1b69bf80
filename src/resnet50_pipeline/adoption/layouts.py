"""Recognizes the layout of a folder of images.

train/rose/1.jpg, val/rose/2.jpg            ImageNet, Imagenette, ImageNet-100; also valid/, training/, test/, …
rose/1.jpg                                  class folders without a split
train/n01443537/images/…, val/val_annotations.txt       Tiny-ImageNet
train_list.txt, val_list.txt                PaddleClas' lists
labels.csv, metadata.csv                    a table with a column for images and one for labels
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from resnet50_pipeline.adoption.class_order import are_numbers, order_names
from resnet50_pipeline.adoption.found import FoundDataset, LabeledImage
from resnet50_pipeline.adoption.image_index import ImageIndex
from resnet50_pipeline.adoption.labels_in_files import Choices, find_metadata, find_paddleclas_lists, find_tables
from resnet50_pipeline.adoption.split_names import split_of_name
from resnet50_pipeline.exceptions import DatasetError, DatasetNotFoundError, ListFileError
from resnet50_pipeline.imagenet.layout import find_layout, read_lists
from resnet50_pipeline.imagenet.lists.class_file import ListedClass
from resnet50_pipeline.imagenet.lists.files import Split
from resnet50_pipeline.imagenet.lists.ground_truth import META_FILE
from resnet50_pipeline.imagenet.lists.synset_names import NAME_FILES, read_synset_names
from resnet50_pipeline.imagenet.lists.text_file import read_text_file
from resnet50_pipeline.text import list_names, pluralize

LOOKED_FOR = """\
  train/ and val/ (or valid/, validation/, test/), each with one folder per class
  one folder per class: rose/1.jpg, tulip/2.jpg
  train_list.txt (and val_list.txt) with `path label` lines, as PaddleClas reads them
  a CSV or TSV file, such as metadata.csv, with a column for images and one for labels
  Tiny-ImageNet: train/<class>/images/, val/val_annotations.txt"""
_ANNOTATIONS = "val_annotations.txt"
_GROUND_TRUTHS = (
    "LOC_val_solution.csv",
    "ILSVRC2012_validation_ground_truth.txt",
    "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt",
)
_MOST_NAMED = 3
_Rows = dict[Split, list[tuple[str, str]]]
"""The path and the class name of each image, keyed by split."""


def recognize(root: Path, choices: Choices | None = None) -> FoundDataset:
    """Return the images in the dataset at `root`, with their classes and splits.

    Labels in existing lists or tables are kept. Without such labels, the class folders are numbered, in numeric order
    if all names are numbers and in alphabetical order otherwise.

    Raises:
        DatasetNotFoundError: if the folder does not exist or its layout is not recognized.
        DatasetError: if a list or a table is invalid.
    """
    choices = choices or Choices()
    require_folder(root)
    images = ImageIndex(root)
    if not images.paths:
        counts = images.other_files.most_common(5)
        links = list_names(images.linked_folders, _MOST_NAMED)
        others = ", ".join(f"{count} {suffix or 'without suffix'}" for suffix, count in counts)
        raise DatasetNotFoundError(
            f"{root}: no images (.jpg, .jpeg, .png, .bmp, .webp, .gif, .tif)"
            + (f", only other files: {others}" if others else "")
            + (f"; links to folders are not followed: {links}" if links else "")
            + " → unpack archives first, and convert other formats"
        )
    recognizers: tuple[Callable[[ImageIndex, Choices], FoundDataset | None], ...] = (
        _find_tiny_imagenet,
        _find_imagenet,
        find_paddleclas_lists,
        find_metadata,
        _find_split_folders,
        find_tables,
        _find_class_folders,
    )
    if choices.label_column is not None:
        recognizers = (find_metadata, find_tables)  # the user has chosen a table, even if another layout matches
    for recognizer in recognizers:
        if (found := recognizer(images, choices)) is not None:
            _require_images(found, root)
            _require_one_split(found, root)
            return _add_groups(replace(found, notes=(*found.notes, *_note_unused(images, found))), choices)
    if choices.label_column is not None and not images.hints:
        raise DatasetError(
            f"--label-column {choices.label_column}: {root} has no CSV or TSV file that names its images → omit the "
            "option, or correct the paths in the file"
        )
    raise DatasetNotFoundError(
        "\n".join([f"{root} does not match any known layout:", LOOKED_FOR, *images.hints, _describe_nearest(images)])
    )


def require_folder(root: Path) -> None:
    """Raise an error if `root` is not a folder.

    Raises:
        DatasetNotFoundError: if `root` is not a folder.
    """
    if not root.is_dir():
        raise DatasetNotFoundError(f"{root} is {'not a folder' if root.exists() else 'missing'} → correct the path")


def _find_tiny_imagenet(images: ImageIndex, _: Choices) -> FoundDataset | None:
    annotations = images.root / "val" / _ANNOTATIONS
    if not annotations.is_file():
        return None
    rows: _Rows = {"train": [], "val": []}
    for path in images.below("train"):
        rows["train"].append((path, path.split("/")[1]))
    missing = []
    for number, line in enumerate(read_text_file(annotations).splitlines(), start=1):
        name, *fields = line.split("\t")
        image = images.resolve(name, ("val/images", "val"))
        if not fields or image is None:
            missing.append(f"line {number}")
        else:
            rows["val"].append((image, fields[0]))
    notes = (
        [f"skipped {len(missing):,} lines of {_ANNOTATIONS} without a class or an existing image, such as {missing[0]}"]
        if missing
        else []
    )
    words = images.root / "words.txt"
    names: dict[str, str] = {}
    if words.is_file():
        fields_of = [line.split("\t", 1) for line in read_text_file(words).splitlines()]
        names = {fields[0]: fields[1].strip() for fields in fields_of if len(fields) == 2}
    return _name_classes("Tiny-ImageNet", rows, images.root, names, tuple(notes))


def _find_imagenet(images: ImageIndex, _: Choices) -> FoundDataset | None:
    """Find ImageNet's layout, with or without lists. The project can read this layout without new lists."""
    root = images.root
    truth = next((Path(name) for name in _GROUND_TRUTHS if (root / name).is_file()), None)
    has_class_folders = any(path.count("/") > 1 for path in images.below("val"))
    if truth is not None and (has_class_folders or (root / "val_list.txt").is_file()):
        truth = None
    if truth is not None and truth.suffix == ".txt" and not (root / truth).with_name(META_FILE).is_file():
        truth = None
    notes: tuple[str, ...] = ()
    parameters: dict[str, Any] = {} if truth is None else {"val_ground_truth": truth.as_posix()}
    try:
        layout = find_layout(root, val_ground_truth=truth)
        lists = read_lists(layout, None)
    except DatasetNotFoundError:
        return None
    except ListFileError:
        return None  # lists in another format, or classes only in val/; the errors of other layouts are clearer
    has_lists = layout.lists["train"].is_file()
    listed = sum(len(prefixed.entries) for prefixed in lists.values())
    if not has_lists:
        is_complete = listed == len(images.below("train")) + len(images.below("val"))
        if not is_complete or any(path.count("/") > 1 for path in images.below("test")):
            return None  # images in subfolders of class folders, or a third split: both need lists
        folders = sorted({path.split("/")[1] for path in lists["train"].entries.paths})
        if are_numbers(folders) and folders != sorted(folders, key=int):
            return None  # numeric class names, which must not be sorted as text
    else:
        used = np.unique(np.concatenate([one.entries.labels for one in lists.values()]))
        if used[0] == 1 and used[-1] == len(used):
            lists = read_lists(layout, None, label_base=1)
            parameters["label_base"] = 1
            notes = ("labels in the lists start at 1, so 1 is subtracted",)
    keys: dict[int, str] = {}
    for path, label in zip(lists["train"].entries.paths, lists["train"].entries.labels.tolist(), strict=True):
        keys.setdefault(label, path.split("/")[1] if path.count("/") > 1 else str(label))
    count = 1 + max(int(lists[split].entries.labels.max()) for split in lists)
    names = read_synset_names(root)
    classes = tuple(ListedClass(key := keys.get(label, str(label)), names.get(key, key)) for label in range(count))
    given = "with lists" if has_lists else "without lists"
    splits: dict[Split, list[LabeledImage]] = {
        split: [
            LabeledImage(path, label)
            for path, label in zip(prefixed.entries.paths, prefixed.entries.labels.tolist(), strict=True)
        ]
        for split, prefixed in lists.items()
    }
    return FoundDataset(f"ImageNet's layout, {given}", classes, splits, notes, parameters)


def _find_split_folders(images: ImageIndex, _: Choices) -> FoundDataset | None:
    rows: _Rows = defaultdict(list)
    folders: dict[Split, list[str]] = defaultdict(list)
    for top in sorted({path.partition("/")[0] for path in images.paths if "/" in path}):
        split = split_of_name(top)
        if split is None:
            continue
        folders[split].append(f"{top}/")
        for path in images.below(top):
            if path.count("/") > 1:
                rows[split].append((path, path.split("/")[1]))
    if not rows["train"] or len(folders) < 2:
        return None
    notes = _note_deeper([row for part in rows.values() for row in part], 2)
    tops = ", ".join(name for split in ("train", "val", "test") for name in folders.get(split, ()))
    return _name_classes(
        f"class folders in {tops}", {split: rows[split] for split in rows if rows[split]}, images.root, {}, tuple(notes)
    )


def _find_class_folders(images: ImageIndex, _: Choices) -> FoundDataset | None:
    rows = [(path, path.partition("/")[0]) for path in images.paths if "/" in path]
    classes = {key for _, key in rows}
    if len(classes) < 2:
        return None
    parts = [name for name in sorted(classes) if split_of_name(name) is not None]
    if len({split_of_name(name) for name in parts}) > 1:
        images.hints.append(f"{', '.join(f'{name}/' for name in parts)}: splits without class folders")
        return None
    return _name_classes(
        "class folders without a split", {"train": rows}, images.root, {}, tuple(_note_deeper(rows, 1))
    )


def _note_deeper(rows: Sequence[tuple[str, str]], depth: int) -> list[str]:
    """Return a note if class folders have subfolders with images, because the subfolders may be the intended classes.

    Args:
        rows: path and class name of each image.
        depth: number of folders above an image that is directly in its class folder.
    """
    deeper = [(path, key) for path, key in rows if path.count("/") > depth]
    # A single subfolder per class folder, such as images/, does not divide the class.
    if len({path.split("/")[depth] for path, _ in deeper}) < 2:
        return []
    path, key = deeper[0]
    return [f"{pluralize(len(deeper), 'image')} in subfolders of class folders: {path} gets the class {key}"]


def _note_unused(images: ImageIndex, found: FoundDataset) -> list[str]:
    """Return notes on unused images, tables and links to folders."""
    used = {image.path for part in found.splits.values() for image in part}
    left = Counter(path.rpartition("/")[0] or "." for path in images.paths if path not in used)
    notes = []
    if left:
        where = list_names([f"{count:,} in {folder}" for folder, count in left.most_common()], _MOST_NAMED)
        notes.append(f"not used: {pluralize(left.total(), 'image')} without a class ({where})")
    notes += [f"not used: {hint.partition(chr(10))[0]}" for hint in dict.fromkeys(images.hints)]
    if images.linked_folders:
        links = list_names(images.linked_folders, _MOST_NAMED)
        notes.append(f"not used: links to folders, because links are not followed ({links})")
    return notes


def _name_classes(
    layout: str,
    rows: Mapping[Split, Sequence[tuple[str, str]]],
    root: Path,
    names: Mapping[str, str],
    notes: tuple[str, ...],
) -> FoundDataset:
    """Return the dataset. Its labels are derived from the rows' class names."""
    keys = {key for part in rows.values() for _, key in part}
    if odd := [key for key in sorted(keys) if "\t" in key or "\n" in key]:
        raise DatasetError(f"{root}: the class folder {odd[0]!r} contains a tab or line break → rename the folder")
    classes, more = order_names(keys, root)
    if not names and any((root / name).is_file() for name in NAME_FILES):
        names = read_synset_names(root)
    label_of = {one.key: label for label, one in enumerate(classes)}
    splits: dict[Split, list[LabeledImage]] = {
        split: [LabeledImage(path, label_of[key]) for path, key in sorted(part)] for split, part in rows.items()
    }
    classes = tuple(replace(one, name=names.get(one.key, one.name)) for one in classes)
    return FoundDataset(layout, classes, splits, (*more, *notes))


def _require_images(found: FoundDataset, root: Path) -> None:
    """Raise an error if there are no training images, or if all images belong to one class."""
    if not found.splits.get("train"):
        raise DatasetError(f"{root}: {found.layout}: no training images → add images to train")
    labels = {image.label for part in found.splits.values() for image in part}
    if len(labels) < 2:
        name = found.classes[labels.pop()].name
        raise DatasetError(f"{root}: {found.layout}: all images belong to class {name} → add images of other classes")


def _require_one_split(found: FoundDataset, root: Path) -> None:
    """Raise an error if an image is in two splits."""
    split_of: dict[str, Split] = {}
    for split, part in found.splits.items():
        for image in part:
            if split_of.setdefault(image.path, split) != split:
                raise DatasetError(
                    f"{root}: {image.path} is in both {split_of[image.path]} and {split} → remove the image from one "
                    "of the splits"
                )


def _add_groups(found: FoundDataset, choices: Choices) -> FoundDataset:
    """Return the dataset with the groups that a regular expression extracts from the paths."""
    is_column = any(image.group for part in found.splits.values() for image in part)
    if choices.group_by is None or is_column:
        return found
    try:
        pattern = re.compile(choices.group_by)
    except re.error as error:
        raise DatasetError(
            f"--group-by {choices.group_by}: neither a column nor a valid regular expression ({error})"
        ) from error
    unmatched = 0
    splits: dict[Split, list[LabeledImage]] = {}
    for split, part in found.splits.items():
        splits[split] = []
        for image in part:
            match = pattern.search(image.path)
            group = "" if match is None else (match[1] if pattern.groups else match[0]) or ""
            unmatched += not group
            splits[split].append(image._replace(group=group))
    total = sum(map(len, splits.values()))
    if unmatched == total:
        raise DatasetError(
            f"--group-by {choices.group_by}: matches none of the paths (such as {found.splits['train'][0].path}) and "
            "no column with values in the tables in use → correct the expression or the column name"
        )
    notes = (f"--group-by matches {total - unmatched:,} of {total:,} paths; the other images have no group",)
    return replace(found, splits=splits, notes=(*found.notes, *(notes if unmatched else ())))


def _describe_nearest(images: ImageIndex) -> str:
    """Describe what was found instead, and suggest a next step."""
    tops = Counter(path.partition("/")[0] if "/" in path else "" for path in images.paths)
    where = ", ".join(
        f"{count:,} in {top}/" if top else f"{count:,} directly in the folder" for top, count in tops.most_common(5)
    )
    found = f"Found {pluralize(len(images.paths), 'image')}: {where}"
    if images.tables:
        found += f"; and {list_names(images.tables, _MOST_NAMED)}"
    below = {path.split("/")[1] for path in images.paths if path.count("/") > 1}
    if len(tops) == 1 and "" not in tops and len(below) > 1:
        return f"{found}\n→ adopt the subfolder: kedro adopt {images.root / next(iter(tops))}"
    return f"{found}\n→ move the images into one folder per class, or add a table with a header such as path,label"
