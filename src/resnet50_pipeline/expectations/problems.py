"""What is wrong with which image, and what to do: `train_list.txt:17: train/….JPEG: is missing → put …`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from resnet50_pipeline.expectations.row_rules import find_folder_labels
from resnet50_pipeline.imagenet.list_files import Split
from resnet50_pipeline.imagenet.manifest import select_listed


def explain_rows(
    name: str, manifest: pd.DataFrame, rows: Sequence[int], class_num: int, list_names: Mapping[Split, str]
) -> list[str]:
    """Return a line for each image that breaks the expectation `name`.

    Args:
        name: of an expectation about single images.
        manifest: all images; those that a list names come first, in the lists' order.
        rows: index values of those that break it.
        class_num: number of classes.
        list_names: name of each split's list file.
    """
    if not rows:
        return []
    broken = manifest.loc[list(rows)].assign(place=_find_places(manifest, rows, list_names))
    if name in _EXPLAINERS:
        return _EXPLAINERS[name](broken, manifest, class_num)
    return [f"{place}: {problem}" for place, problem in _columns(broken, "place", "problem")]


def explain_absent_classes(manifest: pd.DataFrame, class_num: int) -> list[str]:
    """Return a line for each of the labels 0..class_num-1 that no train image has, with its folder in val/."""
    train_labels = _labels_of(manifest, "train")
    show = _label_namer(manifest)
    return [
        f"train: {show(label)} has no image → add images of this class, or correct dataset.class_num "
        f"(it is {class_num}, and {len(train_labels)} labels have images)"
        for label in sorted(set(range(class_num)) - train_labels)
    ]


def explain_unlike_classes(manifest: pd.DataFrame) -> list[str]:
    """Return a line for each label that only one of the two splits has, with its class folder."""
    train_labels, val_labels = _labels_of(manifest, "train"), _labels_of(manifest, "val")
    show = _label_namer(manifest)
    return [
        f"val: {show(label)} has images in train/, but none in val/ → add some, or take the class out of train/"
        for label in sorted(train_labels - val_labels)
    ] + [
        f"val: {show(label)} has images in val/, but none in train/ → add some there, or take the class out of val/"
        for label in sorted(val_labels - train_labels)
    ]


def _label_namer(manifest: pd.DataFrame) -> Callable[[int], str]:
    """Return a function that shows a label with its class folder, `label 3 (n00000003)`, where it has one."""
    listed = select_listed(manifest)
    known = listed[listed["synset"] != ""].drop_duplicates("label")
    synsets: dict[int, str] = dict(zip(known["label"].tolist(), known["synset"].tolist(), strict=True))
    return lambda label: f"label {label} ({synsets[label]})" if label in synsets else f"label {label}"


def _find_places(manifest: pd.DataFrame, rows: Sequence[int], list_names: Mapping[Split, str]) -> list[str]:
    """Return `train_list.txt:17: train/….JPEG` for each of the rows that a list names, the path alone for others."""
    lines = (manifest.groupby("split").cumcount() + 1).loc[list(rows)]
    broken = manifest.loc[list(rows)]
    columns = zip(broken["split"], lines, broken["path"], broken["status"], strict=True)
    return [
        path if status == "unlisted" else f"{list_names[split]}:{line}: {path}" for split, line, path, status in columns
    ]


def _labels_of(manifest: pd.DataFrame, split: Split) -> set[int]:
    return set(select_listed(manifest, split)["label"].astype(int))


def _explain_range(broken: pd.DataFrame, _: pd.DataFrame, class_num: int) -> list[str]:
    return [
        f"{place}: label {label} is outside 0..{class_num - 1} (class_num is {class_num}) → "
        "correct the label or dataset.class_num"
        for place, label in _columns(broken, "place", "label")
    ]


def _explain_folder(broken: pd.DataFrame, manifest: pd.DataFrame, _: int) -> list[str]:
    label_of_folder = find_folder_labels(manifest).to_dict()
    folders_of_label: dict[int, list[str]] = {}
    for folder, label in label_of_folder.items():
        folders_of_label.setdefault(label, []).append(str(folder))
    lines = []
    for place, folder, label in _columns(broken, "place", "synset", "label"):
        folders = ", ".join(sorted(folders_of_label.get(label, ())))
        if folder not in label_of_folder:
            finding = f"label {label} is that of {folders} in train/, which has no {folder} → correct label or folder"
        elif label_of_folder[folder] != label:
            finding = (
                f"label {label}, but train images of {folder} have label {label_of_folder[folder]} → "
                "correct the label; if every line is wrong, the list was made for another order of classes"
            )
        else:
            finding = f"label {label} is that of {folders} → give each folder a label of its own"
        lines.append(f"{place}: {finding}")
    return lines


def _explain_repeated_path(broken: pd.DataFrame, _: pd.DataFrame, __: int) -> list[str]:
    return [
        f"{place}: also named at {first.removesuffix(f': {path}')} → delete one of the two lines"
        for path, same in broken.groupby("path", sort=False)
        for first, place in _pair_with_first(same)
    ]


def _explain_shared_content(broken: pd.DataFrame, _: pd.DataFrame, __: int) -> list[str]:
    in_train = broken[broken["split"] == "train"].drop_duplicates("sha256").set_index("sha256")["place"].to_dict()
    return [
        f"{place}: has the content of {in_train[content]} → take the line out of one of the two lists"
        for place, content in _columns(broken[broken["split"] == "val"], "place", "sha256")
    ]


def _explain_copies(broken: pd.DataFrame, _: pd.DataFrame, __: int) -> list[str]:
    return [
        f"{place}: has the content of {first} → take one of the two lines out, if copies are not meant"
        for _content, same in broken.groupby(["split", "sha256"], sort=False)
        for first, place in _pair_with_first(same)
    ]


def _explain_format(broken: pd.DataFrame, _: pd.DataFrame, __: int) -> list[str]:
    return [
        f"{place}: is {image_format} by content → it trains as well; see where it comes from"
        for place, image_format in _columns(broken, "place", "format")
    ]


def _explain_mode(broken: pd.DataFrame, _: pd.DataFrame, __: int) -> list[str]:
    return [
        f"{place}: has pixels of mode {mode}, which decoding converts → look at the image once"
        for place, mode in _columns(broken, "place", "mode")
    ]


def _explain_orientation(broken: pd.DataFrame, _: pd.DataFrame, __: int) -> list[str]:
    return [
        f"{place}: has EXIF orientation {orientation}, and is turned while decoding → save it upright"
        if orientation
        else f"{place}: has damaged EXIF data → save the image without it"
        for place, orientation in _columns(broken, "place", "exif_orientation")
    ]


def _explain_name(broken: pd.DataFrame, _: pd.DataFrame, __: int) -> list[str]:
    return [f"{place}: does not end in .JPEG → see where it comes from" for place in broken["place"]]


def _columns(rows: pd.DataFrame, *names: str) -> Iterator[tuple[Any, ...]]:
    return zip(*(rows[name] for name in names), strict=True)


def _pair_with_first(same: pd.DataFrame) -> Iterator[tuple[str, str]]:
    """Yield the place of the first row with that of each later one."""
    first, *others = same["place"]
    return ((first, other) for other in others)


_EXPLAINERS: dict[str, Callable[[pd.DataFrame, pd.DataFrame, int], list[str]]] = {
    "labels_in_range": _explain_range,
    "labels_follow_folders": _explain_folder,
    "paths_are_unique": _explain_repeated_path,
    "splits_share_no_image": _explain_shared_content,
    "images_are_unique": _explain_copies,
    "images_are_jpeg": _explain_format,
    "images_are_rgb_or_grey": _explain_mode,
    "images_are_upright": _explain_orientation,
    "names_end_in_jpeg": _explain_name,
}
