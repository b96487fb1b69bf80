"""Checks fix lists against a dataset's lists, and turns them into patches."""

from __future__ import annotations

import contextlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from resnet50_pipeline.exceptions import ListFileError
from resnet50_pipeline.imagenet.layout import DatasetLayout, count_classes, find_dataset, patch_lists, read_lists
from resnet50_pipeline.imagenet.lists.files import SPLITS, Split
from resnet50_pipeline.imagenet.lists.fixes import Fix
from resnet50_pipeline.imagenet.lists.patches import (
    PATCHED_SPLITS,
    PatchContent,
    PatchRow,
    last_rows,
    number_classes,
    other_split,
    read_patches,
)
from resnet50_pipeline.imagenet.lists.problems import quote
from resnet50_pipeline.imagenet.synsets import ImageClass, find_classes
from resnet50_pipeline.parameters import DatasetParameters
from resnet50_pipeline.text import list_names, pluralize

_CLASSES_NAMED = 5


@dataclass(frozen=True)
class ListedImages:
    """The images in a dataset's lists, with all earlier patches applied.

    Attributes:
        layout: parts of the dataset.
        found: label of each image, keyed by split and then by path relative to the dataset root.
        classes: classes in label order.
        can_move: whether images can move between train and val; false if the images are read from archives.
        derives_class_num: whether the number of classes is the largest label in the lists plus one.
        numbers: label of each class in the unpatched lists; see `lists.patches.number_classes`.
        patched: most recent patch row for each image, keyed by the image's split after that patch and its path.
    """

    layout: DatasetLayout
    found: Mapping[Split, Mapping[str, int]]
    classes: tuple[ImageClass, ...]
    can_move: bool
    derives_class_num: bool = False
    numbers: Mapping[str, int] = field(default_factory=dict)
    patched: Mapping[tuple[Split, str], PatchRow] = field(default_factory=dict)

    def find_image(self, path: str, split: Split | None = None) -> tuple[Split, str]:
        """Return the split and the root-relative path of an image that is named in a fix list.

        Args:
            path: path relative to the dataset root or to the split's folder.
            split: split of the image; None searches all lists.

        Raises:
            ValueError: if the path is not in the searched lists, or if it is in more than one of them.
        """
        for names in ([path], [f"{folder}/{path}" for folder in SPLITS]):
            options = [
                (one, name)
                for name in names
                for one, labels in self.found.items()
                if name in labels and split in (None, one)
            ]
            if len(options) == 1:
                return options[0]
            if options:
                places = " and ".join(f"{name} in the {one} list" for one, name in options)
                raise ValueError(
                    f"{quote(path)} is ambiguous ({places}) → write the full path, and add a `split` column with "
                    "train or val"
                )
        where = "any list" if split is None else f"the {split} list"
        raise ValueError(f"{quote(path)} is not in {where} → write the path exactly as in your list, or remove the row")

    def is_in_several_lists(self, path: str) -> bool:
        """Return whether a path relative to the dataset root is in more than one list."""
        return sum(path in labels for labels in self.found.values()) > 1

    def find_label(self, text: str) -> int:
        """Return the label that a label, a class folder or a class name refers to.

        Raises:
            ValueError: if there is no such class, or if several classes share the name.
        """
        if text.isascii() and text.isdigit():
            if int(text) < len(self.classes):
                return int(text)
            raise ValueError(f"label {text} is outside 0..{len(self.classes) - 1} → use a label in this range")
        labels = [one.id for one in self.classes if text == one.synset] or [
            one.id for one in self.classes if text == one.name
        ]
        if len(labels) == 1:
            return labels[0]
        if labels:
            shared = ", ".join(map(str, labels))
            raise ValueError(f"{quote(text)} is the name of several classes (labels {shared}) → use a label instead")
        known = list_names([one.synset or one.name for one in self.classes], _CLASSES_NAMED)
        raise ValueError(f"{quote(text)} is not a class → use a 0-based label or one of the classes: {known}")

    def name_label(self, label: int) -> str:
        """Return the name of a class for messages and pages."""
        return self.classes[label].name


def list_images(root: Path, dataset: DatasetParameters) -> ListedImages:
    """Return the images in the dataset's lists, with all patches applied. No image is opened.

    Raises:
        DatasetError: if a list is missing or invalid, or if a patch does not apply.
    """
    layout = find_dataset(root, dataset)
    given = read_lists(replace(layout, patches=None), dataset.class_num, dataset.label_base, repair=dataset.repair)
    patches = read_patches(layout.patches)
    lists = patch_lists(layout, given, patches)
    found: dict[Split, dict[str, int]] = {
        split: dict(zip(prefixed.entries.paths, prefixed.entries.labels.tolist(), strict=True))
        for split, prefixed in lists.items()
    }
    class_num = dataset.class_num or count_classes(prefixed.entries for prefixed in lists.values())
    rows = [(split, path, label) for split, labels in found.items() for path, label in labels.items()]
    if layout.classes is not None:
        class_num = max(class_num, len(layout.classes))
        keys = [one.key for one in layout.classes]
        synsets = [keys[label] for _, _, label in rows]
    else:
        synsets = [_folder_of(path) for _, path, _ in rows]
    table = pd.DataFrame(
        {
            "split": [split for split, _, _ in rows],
            "label": [label for _, _, label in rows],
            "synset": synsets,
            "status": "ok",
        }
    )
    classes = find_classes(table, class_num, root, layout.meta, layout.classes or ())
    # data_validation also counts class folders without images if it generates the train list from the folders.
    derives_class_num = dataset.class_num is None and layout.classes is None and not lists["train"].is_generated
    return ListedImages(
        layout,
        found,
        classes,
        can_move=not layout.archives or dataset.unpack,
        derives_class_num=derives_class_num,
        numbers=number_classes(given["train"], layout.classes),
        patched=last_rows(patches),
    )


def make_patch(
    images: ListedImages, fixes: Sequence[Fix], *, source: str, by: str, reason: str
) -> tuple[PatchContent, list[str]]:
    """Check every row of a fix list, and return the resulting patch and any warnings.

    Rows that an earlier patch already applied are skipped. The warnings state how many rows were skipped, and list the
    classes that lose their last image in a split, with the consequences.

    Args:
        images: current lists.
        fixes: rows of the fix list.
        source: name of the fix list.
        by: name of the person who makes the patch.
        reason: reason for the patch.

    Raises:
        ListFileError: if a path is in no list or in several lists, a label is not a class, an image cannot be changed,
            or two rows conflict; the message lists each problem with its row number (1 is the row after the header).
    """
    problems: list[str] = []
    first_row: dict[tuple[Split, str], int] = {}
    decided: dict[tuple[Split, str], tuple[str, int | None]] = {}
    rows: list[PatchRow] = []
    applied = 0
    for number, fix in enumerate(fixes, start=1):
        where = f"{source}, row {number}"
        try:
            if is_applied(images, fix):
                applied += 1
                continue
            split, path, new_label = _resolve(images, fix)
        except ValueError as error:
            problems.append(f"{where}: {error}")
            continue
        image, decision = (split, path), (fix.action, new_label)
        if image in decided:
            if decided[image] != decision:
                problems.append(
                    f"{where}: {fix.action} {quote(path)} conflicts with {decided[image][0]} in row "
                    f"{first_row[image]} → keep only one of the rows"
                )
            continue
        first_row[image], decided[image] = number, decision
        if fix.action != "keep":
            label = images.found[split][path]
            rows.append(
                PatchRow(path=path, action=fix.action, split=split, label=label, new_label=new_label, reason=fix.reason)
            )
    if problems:
        raise ListFileError(problems)
    used = {label for row in rows for label in (row.label, row.new_label)}
    content = PatchContent(
        by=by,
        at=f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        reason=reason,
        source=source,
        kept=len(decided) - len(rows),
        rows=tuple(rows),
        classes={name: label for name, label in images.numbers.items() if label in used},
    )
    warnings = [f"skipped {pluralize(applied, 'row')} that earlier patches already applied"] if applied else []
    return content, [*warnings, *_find_number_names(images, fixes), *_find_lost_classes(images, rows)]


def _find_number_names(images: ListedImages, fixes: Iterable[Fix]) -> list[str]:
    """Return a warning if a label is also the name of a different class, as in a dataset with the classes 1 to 102."""
    labels = {one.synset or one.name: one.id for one in images.classes}
    for text in (fix.label for fix in fixes if fix.label.isascii() and fix.label.isdigit()):
        if labels.get(text, int(text)) != int(text):
            meant = images.name_label(int(text)) if int(text) < len(images.classes) else "missing"
            return [
                f"{text} is interpreted as a label (class {meant}), not as the class named {text}, which has label "
                f"{labels[text]}"
            ]
    return []


def is_applied(images: ListedImages, fix: Fix) -> bool:
    """Return whether an earlier patch already made this change, and no later patch changed the image again."""
    if fix.action != "move":  # without a split, the same move would move the image back
        with contextlib.suppress(ValueError):
            _resolve(images, fix)
            return False
    names = (fix.path, *(f"{folder}/{fix.path}" for folder in SPLITS))
    rows = [row for name in names for split in PATCHED_SPLITS if (row := images.patched.get((split, name)))]
    return any(
        (row.action, row.new_label) == (fix.action, images.find_label(fix.label) if fix.label else None)
        and fix.split in (None, row.split)
        for row in rows
    )


def _resolve(images: ListedImages, fix: Fix) -> tuple[Split, str, int | None]:
    """Return the split, the path relative to the dataset root and the new label.

    Raises:
        ValueError: if the row cannot be applied to the lists.
    """
    split, path = images.find_image(fix.path, fix.split)
    label = images.found[split][path]
    if fix.action != "keep" and split not in PATCHED_SPLITS:
        raise ValueError(f"{quote(path)} is in the {split} list, which patches cannot change → remove the row")
    if fix.action == "move" and not images.can_move:
        raise ValueError(
            f"{quote(path)} cannot move to another split, because its archive contains only one split → unpack the "
            "archives (dataset.unpack: true), or drop the image"
        )
    if fix.action == "move" and path in images.found[other_split(split)]:
        raise ValueError(f"{quote(path)} is already in the {other_split(split)} list → drop it from the {split} list")
    if fix.action != "relabel":
        return split, path, None
    new_label = images.find_label(fix.label)
    if new_label == label:
        raise ValueError(f"{quote(path)} already has label {label} → use the action keep")
    return split, path, new_label


def _find_lost_classes(images: ListedImages, rows: Sequence[PatchRow]) -> list[str]:
    counts = Counter((split, label) for split, labels in images.found.items() for label in labels.values())
    for row in rows:
        counts[row.split, row.label] -= 1
        if row.action == "relabel" and row.new_label is not None:
            counts[row.split, row.new_label] += 1
        elif row.action == "move":
            counts[other_split(row.split), row.label] += 1
    class_num = len(images.classes)
    if images.derives_class_num:
        class_num = max((label for (_, label), count in counts.items() if count), default=-1) + 1
    lost: defaultdict[Split, list[str]] = defaultdict(list)
    for (split, label), count in sorted(counts.items()):
        if count == 0 and label < class_num:
            lost[split].append(images.name_label(label))
    warnings = [
        f"{split} no longer contains images of {list_names(names, _CLASSES_NAMED)}; data_validation will stop the run"
        for split, names in lost.items()
    ]
    if class_num < len(images.classes):
        names = [images.name_label(label) for label in range(class_num, len(images.classes))]
        warnings.append(
            f"the lists no longer contain images of {list_names(names, _CLASSES_NAMED)}; the dataset now has "
            f"{pluralize(class_num, 'class', 'classes')}, because dataset.class_num is null"
        )
    return warnings


def _folder_of(path: str) -> str:
    parts = path.split("/")
    return parts[1] if len(parts) > 2 else ""
