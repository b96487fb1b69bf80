"""What is wrong with which class or split, and what to do: `val_list.txt: label 9 (n00000009) has … → add some`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from resnet50_pipeline.expectations import claims
from resnet50_pipeline.expectations.findings import Problem
from resnet50_pipeline.imagenet.known_images import KNOWN_CMYK, KNOWN_PNG
from resnet50_pipeline.imagenet.list_files import Split
from resnet50_pipeline.imagenet.manifest import select_listed

_UNPACK = "unpack the archive again, or set data_validation.suite: imagenet_layout for a data set of your own"


ABOUT_COUNTS = (
    "train_is_not_empty",
    "val_is_not_empty",
    "train_has_1281167_images",
    "val_has_50000_images",
    "train_has_1000_classes",
)


def describe_count(name: str, count: int, list_names: Mapping[Split, str]) -> tuple[str, list[Problem]]:
    """Return what was seen, and the problem, of an expectation about how many images or classes a split has."""
    split: Split = "train" if name.startswith("train") else "val"
    if name.endswith("_is_not_empty"):
        noun, text, fix = "images", "the list names no image", "give it at least one line"
    elif name == "train_has_1000_classes":
        noun, text, fix = "classes", f"train/ has {count:,} labels, but ILSVRC2012 has {claims.CLASSES:,}", _UNPACK
    else:
        expected = claims.TRAIN_IMAGES if split == "train" else claims.VAL_IMAGES
        noun, text, fix = "images", f"{split}/ has {count:,} images, but ILSVRC2012 has {expected:,}", _UNPACK
    return f"{count:,} {noun}", [Problem(list_names[split], 0, "", text, fix)]


def explain_absent_classes(manifest: pd.DataFrame, class_num: int, list_names: Mapping[Split, str]) -> list[Problem]:
    """Return a problem for each of the labels 0..class_num-1 that no train image has, with its folder in val/."""
    train_labels = _labels_of(manifest, "train")
    show = _label_namer(manifest)
    return [
        Problem(
            list_names["train"],
            0,
            "",
            f"{show(label)} has no image",
            f"add images of this class, or correct dataset.class_num (it is {class_num}, and {len(train_labels)} "
            "labels have images)",
        )
        for label in sorted(set(range(class_num)) - train_labels)
    ]


def explain_unlike_classes(manifest: pd.DataFrame, list_names: Mapping[Split, str]) -> list[Problem]:
    """Return a problem for each label that only one of the two splits has, with its class folder."""
    train_labels, val_labels = _labels_of(manifest, "train"), _labels_of(manifest, "val")
    show = _label_namer(manifest)
    return [
        Problem(
            list_names["val"],
            0,
            "",
            f"{show(label)} has images in train/, but none in val/",
            "add some, or take the class out of train/",
        )
        for label in sorted(train_labels - val_labels)
    ] + [
        Problem(
            list_names["val"],
            0,
            "",
            f"{show(label)} has images in val/, but none in train/",
            "add some there, or take the class out of val/",
        )
        for label in sorted(val_labels - train_labels)
    ]


def explain_class_rows(
    name: str, manifest: pd.DataFrame, batch: pd.DataFrame, rows: Sequence[int], list_names: Mapping[Split, str]
) -> list[Problem]:
    """Return a problem for each of the rows that stand for their class, or for train/.

    Args:
        name: of an expectation about classes.
        manifest: all images.
        batch: of the same rows, as `expectations.batch.build_batch` gives it.
        rows: index values of those that break it.
        list_names: name of each split's list file.
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
    """Return a problem for each known PNG or CMYK image of ILSVRC2012 that is not there, or is no such image."""
    wanted, kind = (KNOWN_PNG, "PNG") if name == "known_png_is_there" else (KNOWN_CMYK, "CMYK")
    line_of_row = manifest.groupby("split", observed=True).cumcount() + 1
    known = batch["known_name"].isin(wanted) & (manifest["status"] != "unlisted")
    rows = {str(batch.at[row, "known_name"]): row for row in manifest.index[known]}
    as_known = set(batch["known_as_is"].unique())
    problems = []
    for image in sorted(wanted - as_known):
        if image not in rows:
            text = f"{image}, {kind} in ILSVRC2012, is in no list"
            problems.append(Problem(list_names["train"], 0, "", text, _UNPACK))
            continue
        row = rows[image]
        found = manifest.loc[row]
        problems.append(
            Problem(
                list_names[found["split"]],
                int(line_of_row[row]),
                found["path"],
                f"is {found['format'] or 'undecodable'} {found['mode']}".strip() + f", but {kind} in ILSVRC2012",
                "the images were converted, or come from another copy; take the original",
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
        f"{class_name} is at place {int(row['sorted_label'])} of the sorted synsets",
        "write the lists with that label; if nearly all differ, the labels are the development kit's ILSVRC2012_ID",
    )


def _explain_synsets(_: str, row: Mapping[Any, Any]) -> tuple[str, str]:
    return (
        f"the class folders are not the thousand synsets of ILSVRC2012 (their digest is {row['synsets_digest'][:12]}…)",
        _UNPACK,
    )


_CLASS_EXPLAINERS: Mapping[str, Callable[[str, Mapping[Any, Any]], tuple[str, str]]] = {
    "train_classes_have_732_to_1300_images": _explain_count,
    "val_classes_have_50_images": _explain_count,
    "labels_follow_sorted_synsets": _explain_order,
    "synsets_are_those_of_ilsvrc2012": _explain_synsets,
}
CLASS_EXPECTATIONS = frozenset(_CLASS_EXPLAINERS)


def _label_namer(manifest: pd.DataFrame) -> Callable[[int], str]:
    """Return a function that shows a label with its class folder, `label 3 (n00000003)`, where it has one."""
    listed = select_listed(manifest)
    known = listed[listed["synset"] != ""].drop_duplicates("label")
    synsets: dict[int, str] = dict(zip(known["label"].tolist(), known["synset"].tolist(), strict=True))
    return lambda label: f"label {label} ({synsets[label]})" if label in synsets else f"label {label}"


def _labels_of(manifest: pd.DataFrame, split: Split) -> set[int]:
    return set(select_listed(manifest, split)["label"].unique().tolist())
