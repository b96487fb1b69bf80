"""Explains failures of expectations about classes and splits, as in `val_list.txt: label 9 (…) has … → add …`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from resnet50_pipeline.expectations import claims
from resnet50_pipeline.expectations.findings import Problem
from resnet50_pipeline.imagenet.lists.files import Split
from resnet50_pipeline.imagenet.scan.known_images import KNOWN_CMYK, KNOWN_PNG
from resnet50_pipeline.imagenet.scan.manifest import select_listed

_UNPACK = "unpack the archive again, or set data_validation.suite: imagenet_layout for your own dataset"

COUNT_EXPECTATIONS = (
    "train_is_not_empty",
    "val_is_not_empty",
    "train_has_1281167_images",
    "val_has_50000_images",
    "train_has_1000_classes",
)


def describe_count(name: str, count: int, list_names: Mapping[Split, str]) -> tuple[str, list[Problem]]:
    """Return the observed number of images or classes as text, and the problems with it."""
    split: Split = "train" if name.startswith("train") else "val"
    if name.endswith("_is_not_empty"):
        noun, text, fix = "images", "the list is empty", "add at least one image"
    elif name == "train_has_1000_classes":
        noun, text, fix = "classes", f"train/ has {count:,} labels, but ILSVRC2012 has {claims.CLASSES:,}", _UNPACK
    else:
        expected = claims.TRAIN_IMAGES if split == "train" else claims.VAL_IMAGES
        noun, text, fix = "images", f"{split}/ has {count:,} images, but ILSVRC2012 has {expected:,}", _UNPACK
    return f"{count:,} {noun}", [Problem(list_names[split], 0, "", text, fix)]


def explain_missing_classes(
    manifest: pd.DataFrame, class_num: int, list_names: Mapping[Split, str], class_folders: Mapping[int, str]
) -> list[Problem]:
    """Return a problem for each label in 0..class_num-1 that has no training images, with its class folder if known."""
    train_labels = _labels_of(manifest, "train")
    show = _label_namer(manifest, class_folders)
    return [
        Problem(
            list_names["train"],
            0,
            "",
            f"{show(label)} has no training images"
            + (f" in train/{class_folders[label]}" if label in class_folders else ""),
            f"add images of this class, or correct dataset.class_num (it is {class_num}, but {len(train_labels)} "
            "labels have images)",
        )
        for label in sorted(set(range(class_num)) - train_labels)
    ]


def explain_classes_in_one_split(
    manifest: pd.DataFrame, list_names: Mapping[Split, str], class_folders: Mapping[int, str]
) -> list[Problem]:
    """Return a problem for each label that occurs in only one split, including its class folder."""
    train_labels, val_labels = _labels_of(manifest, "train"), _labels_of(manifest, "val")
    show = _label_namer(manifest, class_folders)
    return [
        Problem(
            list_names["val"],
            0,
            "",
            f"{show(label)} has images in train/, but none in val/",
            "add val images, or remove the class from the train list",
        )
        for label in sorted(train_labels - val_labels)
    ] + [
        Problem(
            list_names["val"],
            0,
            "",
            f"{show(label)} has images in val/, but none in train/",
            "add training images, or remove the class from the val list",
        )
        for label in sorted(val_labels - train_labels)
    ]


def explain_class_rows(
    name: str, manifest: pd.DataFrame, batch: pd.DataFrame, rows: Sequence[int], list_names: Mapping[Split, str]
) -> list[Problem]:
    """Return a problem for each failed row. A row represents a class or the entire train split.

    Args:
        name: name of an expectation about classes.
        manifest: all images.
        batch: table that `expectations.batch.build_batch` built from `manifest`.
        rows: index values of the failed rows.
        list_names: file name of each split's list.
    """
    problems = []
    of_rows = manifest.loc[list(rows), ["split", "label", "synset"]]
    for row, split, label, synset in of_rows.itertuples(name=None):
        values = {**batch.loc[[row]].iloc[0].to_dict(), "split": split}
        text, fix = _CLASS_EXPLAINERS[name](f"label {label}" + (f" ({synset})" if synset else ""), values)
        problems.append(Problem(list_names[split], 0, "", text, fix))
    return problems


def explain_known_images(
    name: str, manifest: pd.DataFrame, batch: pd.DataFrame, list_names: Mapping[Split, str]
) -> list[Problem]:
    """Return a problem for each known PNG or CMYK image in ILSVRC2012 that is missing or was converted."""
    wanted, kind = (KNOWN_PNG, "PNG") if name == "known_png_is_there" else (KNOWN_CMYK, "CMYK")
    line_of_row = manifest.groupby("split", observed=True).cumcount() + 1
    known = batch["known_name"].isin(wanted) & (manifest["status"] != "unlisted")
    rows = {str(batch.at[row, "known_name"]): row for row in manifest.index[known]}
    as_known = set(batch["known_as_is"].unique())
    problems = []
    for image in sorted(wanted - as_known):
        if image not in rows:
            text = f"{image} ({kind} in ILSVRC2012) is not in any list"
            problems.append(Problem(list_names["train"], 0, "", text, _UNPACK))
            continue
        row = rows[image]
        found = manifest.loc[row]
        problems.append(
            Problem(
                list_names[found["split"]],
                int(line_of_row[row]),
                found["path"],
                f"is {found['format'] or 'undecodable'} {found['mode']}".strip() + f", but is {kind} in ILSVRC2012",
                "the images were converted or come from a different copy; use the original files",
            )
        )
    return problems


def _explain_count(class_name: str, row: Mapping[Any, Any]) -> tuple[str, str]:
    images = int(row["images_in_class"])
    expected = (
        f"{claims.MIN_TRAIN_IMAGES_PER_CLASS} to {claims.MAX_TRAIN_IMAGES_PER_CLASS}"
        if row["split"] == "train"
        else str(claims.VAL_IMAGES_PER_CLASS)
    )
    return f"{class_name} has {images} images in {row['split']}/, but {expected} in ILSVRC2012", _UNPACK


def _explain_order(class_name: str, row: Mapping[Any, Any]) -> tuple[str, str]:
    return (
        f"{class_name} is at position {int(row['sorted_label'])} in the sorted list of synsets",
        "use this position as the label; if nearly all labels differ, they are the development kit's ILSVRC2012_ID",
    )


def _explain_synsets(_: str, row: Mapping[Any, Any]) -> tuple[str, str]:
    return (
        "the names of the class folders differ from the 1000 synsets of ILSVRC2012 (digest "
        f"{row['synsets_digest'][:12]}…)",
        _UNPACK,
    )


_CLASS_EXPLAINERS: Mapping[str, Callable[[str, Mapping[Any, Any]], tuple[str, str]]] = {
    "train_classes_have_732_to_1300_images": _explain_count,
    "val_classes_have_50_images": _explain_count,
    "labels_follow_sorted_synsets": _explain_order,
    "synsets_are_those_of_ilsvrc2012": _explain_synsets,
}
CLASS_EXPECTATIONS = frozenset(_CLASS_EXPLAINERS)


def _label_namer(manifest: pd.DataFrame, class_folders: Mapping[int, str]) -> Callable[[int], str]:
    """Return a function that formats a label with its class folder, if it is known: `label 3 (n00000003)`."""
    listed = select_listed(manifest)
    known = listed[listed["synset"] != ""].drop_duplicates("label")
    synsets = {**class_folders, **dict(zip(known["label"].tolist(), known["synset"].tolist(), strict=True))}
    return lambda label: f"label {label} ({synsets[label]})" if label in synsets else f"label {label}"


def _labels_of(manifest: pd.DataFrame, split: Split) -> set[int]:
    return set(select_listed(manifest, split)["label"].unique().tolist())
