"""What is wrong with which image, and what to do: `train_list.txt:17: train/….JPEG: is missing → put …`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from resnet50_pipeline.expectations.findings import Problem
from resnet50_pipeline.expectations.row_rules import find_folder_labels
from resnet50_pipeline.imagenet.list_files import Split

_Place = tuple[str, int, str]
"""List file, line, path of the image, as in `Problem`."""


def explain_rows(
    name: str, manifest: pd.DataFrame, rows: Sequence[int], class_num: int, list_names: Mapping[Split, str]
) -> list[Problem]:
    """Return a problem for each image that breaks the expectation `name`.

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
    problems = []
    for place, problem in _columns(broken, "place", "problem"):
        text, _, fix = problem.partition(" → ")
        problems.append(_tell(place, text, fix))
    return problems


def _find_places(manifest: pd.DataFrame, rows: Sequence[int], list_names: Mapping[Split, str]) -> pd.Series[Any]:
    """Return list, line and path of each of the rows that a list names, the path alone of others."""
    lines = (manifest.groupby("split", observed=True).cumcount() + 1).loc[list(rows)]
    broken = manifest.loc[list(rows)]
    columns = zip(broken["split"], lines.tolist(), broken["path"], broken["status"], strict=True)
    places = [
        ("", 0, path) if status == "unlisted" else (list_names[split], line, path)
        for split, line, path, status in columns
    ]
    return pd.Series(places, index=broken.index, dtype=object)


def _explain_range(broken: pd.DataFrame, _: pd.DataFrame, class_num: int) -> list[Problem]:
    return [
        _tell(
            place,
            f"label {label} is outside 0..{class_num - 1} (class_num is {class_num})",
            "correct the label or dataset.class_num",
        )
        for place, label in _columns(broken, "place", "label")
    ]


def _explain_folder(broken: pd.DataFrame, manifest: pd.DataFrame, _: int) -> list[Problem]:
    label_of_folder = find_folder_labels(manifest).to_dict()
    folders_of_label: dict[int, list[str]] = {}
    for folder, label in label_of_folder.items():
        folders_of_label.setdefault(label, []).append(str(folder))
    problems = []
    for place, folder, label in _columns(broken, "place", "synset", "label"):
        folders = ", ".join(sorted(folders_of_label.get(label, ())))
        if folder not in label_of_folder:
            text = f"label {label} is that of {folders} in train/, which has no {folder}"
            fix = "correct label or folder"
        elif label_of_folder[folder] != label:
            text = f"label {label}, but train images of {folder} have label {label_of_folder[folder]}"
            fix = "correct the label; if every line is wrong, the list was made for another order of classes"
        else:
            text, fix = f"label {label} is that of {folders}", "give each folder a label of its own"
        problems.append(_tell(place, text, fix))
    return problems


def _explain_repeated_path(broken: pd.DataFrame, _: pd.DataFrame, __: int) -> list[Problem]:
    return [
        _tell(place, f"also named at {first[0]}:{first[1]}", "delete one of the two lines")
        for _path, same in broken.groupby("path", sort=False, observed=True)
        for first, place in _pair_with_first(same)
    ]


def _explain_shared_content(broken: pd.DataFrame, _: pd.DataFrame, __: int) -> list[Problem]:
    in_train = broken[broken["split"] == "train"].drop_duplicates("sha256")
    place_of_content = dict(_columns(in_train, "sha256", "place"))
    return [
        _tell(
            place,
            f"has the content of {_show(place_of_content[content])}",
            "take the line out of one of the two lists",
        )
        for place, content in _columns(broken[broken["split"] == "val"], "place", "sha256")
    ]


def _explain_copies(broken: pd.DataFrame, _: pd.DataFrame, __: int) -> list[Problem]:
    return [
        _tell(place, f"has the content of {_show(first)}", "take one of the two lines out, if copies are not meant")
        for _content, same in broken.groupby(["split", "sha256"], sort=False, observed=True)
        for first, place in _pair_with_first(same)
    ]


def _explain_change(broken: pd.DataFrame, _: pd.DataFrame, __: int) -> list[Problem]:
    return [
        _tell(
            place,
            f"has the digest {content[:12]}…, and another in the reference manifest: it was changed since",
            "restore it (`dvc checkout`, or copy it again), or name a newer manifest",
        )
        for place, content in _columns(broken, "place", "sha256")
    ]


def _explain_trailing(broken: pd.DataFrame, _: pd.DataFrame, __: int) -> list[Problem]:
    return [
        _tell(place, f"goes on for {count} bytes behind the end of the image", "see what it is, or save it anew")
        for place, count in _columns(broken, "place", "trailing_bytes")
    ]


def _explain_format(broken: pd.DataFrame, _: pd.DataFrame, __: int) -> list[Problem]:
    return [
        _tell(place, f"is {image_format} by content", "it trains as well; see where it comes from")
        for place, image_format in _columns(broken, "place", "format")
    ]


def _explain_mode(broken: pd.DataFrame, _: pd.DataFrame, __: int) -> list[Problem]:
    return [
        _tell(place, f"has pixels of mode {mode}, which decoding converts", "look at the image once")
        for place, mode in _columns(broken, "place", "mode")
    ]


def _explain_orientation(broken: pd.DataFrame, _: pd.DataFrame, __: int) -> list[Problem]:
    return [
        _tell(place, f"has EXIF orientation {orientation}, and is turned while decoding", "save it upright")
        if orientation
        else _tell(place, "has damaged EXIF data", "save the image without it")
        for place, orientation in _columns(broken, "place", "exif_orientation")
    ]


def _explain_name(broken: pd.DataFrame, _: pd.DataFrame, __: int) -> list[Problem]:
    return [_tell(place, "does not end in .JPEG", "see where it comes from") for place in broken["place"]]


def _columns(rows: pd.DataFrame, *names: str) -> Iterator[tuple[Any, ...]]:
    return zip(*(rows[name] for name in names), strict=True)


def _pair_with_first(same: pd.DataFrame) -> Iterator[tuple[_Place, _Place]]:
    """Yield the place of the first row with that of each later one."""
    first, *others = same["place"]
    return ((first, other) for other in others)


def _tell(place: _Place, text: str, fix: str) -> Problem:
    return Problem(*place, text, fix)


def _show(place: _Place) -> str:
    return _tell(place, "", "").place


_EXPLAINERS: dict[str, Callable[[pd.DataFrame, pd.DataFrame, int], list[Problem]]] = {
    "labels_in_range": _explain_range,
    "labels_follow_folders": _explain_folder,
    "paths_are_unique": _explain_repeated_path,
    "splits_share_no_image": _explain_shared_content,
    "images_are_unique": _explain_copies,
    "images_are_as_they_were": _explain_change,
    "nothing_stands_behind_images": _explain_trailing,
    "images_are_jpeg": _explain_format,
    "images_are_rgb_or_grey": _explain_mode,
    "images_are_upright": _explain_orientation,
    "names_end_in_jpeg": _explain_name,
}
