"""Explains failures of expectations about images, as in `train_list.txt:17: train/….JPEG is missing → restore …`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import pandas as pd

from resnet50_pipeline.expectations.findings import Problem
from resnet50_pipeline.expectations.row_rules import find_folder_labels
from resnet50_pipeline.imagenet.lists.files import Split
from resnet50_pipeline.imagenet.scan.manifest import UNLISTED_STATUSES
from resnet50_pipeline.text import list_names as join_names
from resnet50_pipeline.text import pluralize

# Number of images named in a finding about many images.
_MOST_NAMED = 3
# Expectations about properties that all images in a dataset can share. If more than `_MAX_ALIKE` of their problems are
# the same, these problems are merged.
_ABOUT_KINDS_OF_IMAGES = frozenset(
    {"images_are_jpeg", "images_are_rgb_or_grey", "images_are_upright", "no_unlisted_images"}
)
_MAX_ALIKE = 100
_Location = tuple[str, int, str]
"""List file, line and image path, as in `Problem`."""


def explain_rows(
    name: str, manifest: pd.DataFrame, rows: Sequence[int], class_num: int, list_names: Mapping[Split, str]
) -> list[Problem]:
    """Return a problem for each image that failed the expectation `name`.

    Args:
        name: name of an expectation about individual images.
        manifest: all images. Listed images come first, in list order.
        rows: index values of the failed images.
        class_num: number of classes.
        list_names: file name of each split's list.
    """
    if not rows:
        return []
    broken = manifest.loc[list(rows)].assign(location=find_locations(manifest, rows, list_names))
    if name in _EXPLAINERS:
        problems = _EXPLAINERS[name](broken, manifest, class_num)
        return _merge_alike(problems) if name in _ABOUT_KINDS_OF_IMAGES else problems
    problems = []
    for location, problem in _columns(broken, "location", "problem"):
        text, _, fix = problem.partition(" → ")
        problems.append(_make_problem(location, text, fix))
    return _merge_alike(problems) if name in _ABOUT_KINDS_OF_IMAGES else problems


def _merge_alike(problems: Sequence[Problem]) -> list[Problem]:
    """Merge identical problems. The manifest still contains a row for each image."""
    groups: dict[tuple[str, str, str], list[Problem]] = {}
    for problem in problems:
        groups.setdefault((problem.path.partition("/")[0], problem.text, problem.fix), []).append(problem)
    merged: list[Problem] = []
    for (split, text, fix), alike in groups.items():
        if len(alike) <= _MAX_ALIKE:
            merged += alike
            continue
        names = join_names([problem.path for problem in alike], _MOST_NAMED)
        merged.append(Problem("", 0, "", f"{len(alike):,} images in {split}/ ({names}): each {text}", fix))
    return merged


def find_locations(manifest: pd.DataFrame, rows: Sequence[int], list_names: Mapping[Split, str]) -> pd.Series[Any]:
    """Return the list file, line and path of each row, or only the path if the image is not in any list file."""
    lines = (manifest.groupby("split", observed=True).cumcount() + 1).loc[list(rows)]
    broken = manifest.loc[list(rows)]
    columns = zip(broken["split"], lines.tolist(), broken["path"], broken["status"], strict=True)
    locations = [
        ("", 0, path) if status in UNLISTED_STATUSES or not list_names[split] else (list_names[split], line, path)
        for split, line, path, status in columns
    ]
    return pd.Series(locations, index=broken.index, dtype=object)


def _explain_range(broken: pd.DataFrame, _: pd.DataFrame, class_num: int) -> list[Problem]:
    return [
        _make_problem(
            location,
            f"has label {label}, which is outside 0..{class_num - 1} (class_num is {class_num})",
            "correct the label or dataset.class_num",
        )
        for location, label in _columns(broken, "location", "label")
    ]


def _explain_folder(broken: pd.DataFrame, manifest: pd.DataFrame, _: int) -> list[Problem]:
    label_of_folder = find_folder_labels(manifest).to_dict()
    folders_of_label: dict[int, list[str]] = {}
    for folder, label in label_of_folder.items():
        folders_of_label.setdefault(label, []).append(str(folder))
    problems = []
    for location, folder, label in _columns(broken, "location", "synset", "label"):
        folders = ", ".join(sorted(folders_of_label.get(label, ())))
        if folder not in label_of_folder:
            text = f"has label {label}, which belongs to {folders} in train/; there is no train folder {folder}"
            fix = "correct the label or the folder"
        elif label_of_folder[folder] != label:
            text = f"has label {label}, but the training images in {folder} have label {label_of_folder[folder]}"
            fix = "correct the label; if all lines are wrong, the list uses a different class order"
        else:
            text, fix = f"has label {label}, which is used by {folders}", "give each folder a different label"
        problems.append(_make_problem(location, text, fix))
    return problems


def _explain_repeated_path(broken: pd.DataFrame, _: pd.DataFrame, __: int) -> list[Problem]:
    return [
        _make_problem(location, f"is also listed at {first[0]}:{first[1]}", "keep one of the two lines")
        for _path, same in broken.groupby("path", sort=False, observed=True)
        for first, location in _pair_with_first(same)
    ]


def _explain_shared_content(broken: pd.DataFrame, _: pd.DataFrame, __: int) -> list[Problem]:
    # In the manifest, train comes first and test last. An image in test/ can be a duplicate of an image in val/.
    first_split = dict(_columns(broken.drop_duplicates("sha256"), "sha256", "split"))
    location_of_content = dict(_columns(broken.drop_duplicates("sha256"), "sha256", "location"))
    return [
        _make_problem(
            location,
            f"has the same content as {show_location(location_of_content[content])}",
            "remove one of the two images from its list or folder",
        )
        for location, content, split in _columns(broken, "location", "sha256", "split")
        if split != first_split[content]
    ]


def _explain_contradiction(broken: pd.DataFrame, _: pd.DataFrame, __: int) -> list[Problem]:
    problems = []
    for _content, same in broken.groupby("sha256", sort=False, observed=True):
        first = same.iloc[0]
        problems += [
            _make_problem(
                location,
                f"has {_name_label(label, synset)}, but {show_location(first['location'])} has the same content and "
                f"{_name_label(first['label'], first['synset'])}",
                "keep the image only in the correct class",
            )
            for location, label, synset in _columns(same, "location", "label", "synset")
            if label != first["label"]
        ]
    return problems


def _name_label(label: int, synset: str) -> str:
    return f"label {label}" + (f" ({synset})" if synset else "")


def _explain_copies(broken: pd.DataFrame, _: pd.DataFrame, __: int) -> list[Problem]:
    return [
        _make_problem(
            location,
            f"has the same content as {show_location(first)}",
            "remove one of the images unless the duplicate is intended",
        )
        for _content, same in broken.groupby(["split", "sha256"], sort=False, observed=True)
        for first, location in _pair_with_first(same)
    ]


def _explain_change(broken: pd.DataFrame, _: pd.DataFrame, __: int) -> list[Problem]:
    return [
        _make_problem(
            location,
            f"has digest {content[:12]}…, which differs from the reference manifest, so the file was changed",
            "restore the file (run `dvc checkout` or copy the file again), or set reference_manifest to a newer "
            "manifest",
        )
        for location, content in _columns(broken, "location", "sha256")
    ]


def _explain_trailing(broken: pd.DataFrame, _: pd.DataFrame, __: int) -> list[Problem]:
    return [
        _make_problem(
            location, f"has {count} bytes after the end of the image", "inspect these bytes, or save the image again"
        )
        for location, count in _columns(broken, "location", "trailing_bytes")
    ]


def _explain_ignored(broken: pd.DataFrame, _: pd.DataFrame, __: int) -> list[Problem]:
    return [
        _make_problem(
            location, f"has content that decoding ignores: {ignored}", "make sure that you want to train on the rest"
        )
        for location, ignored in _columns(broken, "location", "ignored")
    ]


def _explain_format(broken: pd.DataFrame, _: pd.DataFrame, __: int) -> list[Problem]:
    return [
        _make_problem(
            location, f"contains {image_format} data", "check the origin of the image; you can still train on it"
        )
        for location, image_format in _columns(broken, "location", "format")
    ]


def _explain_mode(broken: pd.DataFrame, _: pd.DataFrame, __: int) -> list[Problem]:
    return [
        _make_problem(
            location, f"has color mode {mode}, which is converted during decoding", "check that the image looks right"
        )
        for location, mode in _columns(broken, "location", "mode")
    ]


def _explain_orientation(broken: pd.DataFrame, _: pd.DataFrame, __: int) -> list[Problem]:
    return [
        _make_problem(
            location, f"has EXIF orientation {orientation} and is rotated during decoding", "re-save it upright"
        )
        if orientation
        else _make_problem(location, "has damaged EXIF data", "re-save it without EXIF data")
        for location, orientation in _columns(broken, "location", "exif_orientation")
    ]


def _explain_name(broken: pd.DataFrame, _: pd.DataFrame, __: int) -> list[Problem]:
    problems = []
    for (split, suffix), same in _group_by_suffix(broken):
        if len(same) == 1:
            problems.append(_make_problem(same["location"].iloc[0], "does not end in .JPEG", "check its origin"))
        else:
            text = f"the {split} list contains {_count_files(same, 'image', suffix)}, not .JPEG"
            problems.append(Problem("", 0, "", text, "check their origin"))
    return problems


def _explain_other_files(broken: pd.DataFrame, _: pd.DataFrame, __: int) -> list[Problem]:
    return [
        Problem(
            "",
            0,
            "",
            f"{split}/ contains unlisted files: {_count_files(same, 'file', suffix)}",
            "rename images to .jpg or .png (convert other formats), add them to a list, or move them elsewhere",
        )
        for (split, suffix), same in _group_by_suffix(broken)
    ]


def _group_by_suffix(broken: pd.DataFrame) -> Iterator[tuple[Any, pd.DataFrame]]:
    """Yield (split, suffix) and the rows of files with this suffix. Hidden files have the suffix ".*"."""
    names = [path.rpartition("/")[2] for path in broken["path"]]
    suffixes = [".*" if name.startswith(".") else PurePosixPath(name).suffix for name in names]
    yield from broken.groupby([broken["split"].astype(str), pd.Series(suffixes, broken.index)], sort=True)


def _count_files(files: pd.DataFrame, noun: str, suffix: str) -> str:
    """Return a count such as `2 files with the suffix .heic (a/1.heic, a/2.heic)`."""
    kind = {"": "without a suffix", ".*": "with a hidden name"}.get(suffix, f"with the suffix {suffix}")
    return f"{pluralize(len(files), noun)} {kind} ({join_names(files['path'].tolist(), _MOST_NAMED)})"


def _columns(rows: pd.DataFrame, *names: str) -> Iterator[tuple[Any, ...]]:
    return zip(*(rows[name] for name in names), strict=True)


def _pair_with_first(same: pd.DataFrame) -> Iterator[tuple[_Location, _Location]]:
    """Yield a pair for each repeated item: its first location and the later location."""
    first, *others = same["location"]
    return ((first, other) for other in others)


def _make_problem(location: _Location, text: str, fix: str) -> Problem:
    return Problem(*location, text, fix)


def show_location(location: tuple[str, int, str]) -> str:
    """Format a list file, line and image path, as in `train_list.txt:17: train/….JPEG`."""
    return _make_problem(location, "", "").location


_EXPLAINERS: dict[str, Callable[[pd.DataFrame, pd.DataFrame, int], list[Problem]]] = {
    "labels_in_range": _explain_range,
    "labels_follow_folders": _explain_folder,
    "paths_are_unique": _explain_repeated_path,
    "splits_share_no_image": _explain_shared_content,
    "copies_have_one_label": _explain_contradiction,
    "images_are_unique": _explain_copies,
    "no_other_files": _explain_other_files,
    "images_are_as_they_were": _explain_change,
    "nothing_stands_behind_images": _explain_trailing,
    "images_are_used_in_full": _explain_ignored,
    "images_are_jpeg": _explain_format,
    "images_are_rgb_or_grey": _explain_mode,
    "images_are_upright": _explain_orientation,
    "names_end_in_jpeg": _explain_name,
}
