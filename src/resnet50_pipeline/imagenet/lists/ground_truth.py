"""Reads the class of each image in a flat val/ folder from a ground truth file.

    ILSVRC2012_validation_ground_truth.txt    `490`: one ILSVRC2012 id per line; the devkit's meta.mat lists the synsets
    LOC_val_solution.csv                      `ILSVRC2012_val_00048981,n03995372 85 1 499 272`, from Kaggle
    any other text file                       `n01751748`: one synset per line

If a file contains no image names, line N belongs to the Nth image in name order. ILSVRC2012 ids are not labels: ids
follow the order of the devkit, whereas labels follow the order of the sorted synsets.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from resnet50_pipeline.exceptions import DatasetError, DatasetNotFoundError, ListFileError
from resnet50_pipeline.imagenet.lists.problems import quote
from resnet50_pipeline.imagenet.lists.text_file import read_text_file
from resnet50_pipeline.text import natural_key, pluralize

META_FILE = "meta.mat"
_CSV_HEADER = ["ImageId", "PredictionString"]
_VAL_NAME = re.compile(r"ILSVRC2012_val_([0-9]{8})\.[A-Za-z]+")


@dataclass(frozen=True)
class GroundTruth:
    """Class of each val image, from a ground truth file.

    Attributes:
        source: path of the file, used in messages.
        synsets: [N] synset of each line, in file order.
        lines: [N] line numbers, 1-based.
        names: [N] image names without folder or suffix; None if line N belongs to the Nth image in name order.
    """

    source: str
    synsets: tuple[str, ...]
    lines: tuple[int, ...]
    names: tuple[str, ...] | None = None


def read_ground_truth(path: Path, meta: Path | None = None) -> GroundTruth:
    """Read the classes of the val images from a file in any of the three formats.

    Args:
        path: text file.
        meta: the devkit's meta.mat; None if it is in the folder of `path`.

    Raises:
        DatasetNotFoundError: if there is no such file, or meta.mat is required but missing.
        ListFileError: if any line is invalid; the message lists each one.
        DatasetError: if meta.mat cannot be read.
    """
    if not path.is_file():
        raise DatasetNotFoundError(f"{path}: the file is missing → correct dataset.val_ground_truth")
    text = read_text_file(path)
    lines = text.rstrip().splitlines()
    if not lines:
        raise ListFileError([f"{path}: the file is empty → write one line per image"])
    if lines[0].split(",") == _CSV_HEADER:
        return _read_solution(text, str(path))
    words = [line.strip() for line in lines]
    if re.fullmatch(r"[0-9]+", words[0]):
        words = _as_synsets(words, read_meta(meta or path.with_name(META_FILE)), str(path))
    if found := _describe_form(lines):
        raise ListFileError([f"{path}:1: {quote(lines[0])} {found}"])
    problems = [
        f"{path}:{number}: {quote(word)} is not a single synset such as n01440764 → write one synset per line"
        for number, word in enumerate(words, start=1)
        if len(word.split()) != 1
    ]
    if problems:
        raise ListFileError(problems)
    return GroundTruth(str(path), tuple(words), tuple(range(1, len(words) + 1)))


def _describe_form(lines: Sequence[str]) -> str:
    """Return the problem with a file whose lines have several columns, or an empty string."""
    for delimiter, name in (("\t", "tabs"), (",", "commas"), (";", "semicolons"), (" ", "spaces")):
        columns = {len(line.strip().split(delimiter)) for line in lines}
        if len(columns) == 1 and (count := columns.pop()) > 1:
            return (
                f"is part of a table with {count} columns separated by {name} → write one synset per line, or use the "
                "format of LOC_val_solution.csv: the header `ImageId,PredictionString`, then for each image a line "
                "such as `ILSVRC2012_val_00000001,n01440764`, without the file suffix"
            )
    return ""


@dataclass(frozen=True)
class MetaClass:
    """One class of the devkit's meta.mat: `1, n02119789, "kit fox, Vulpes macrotis"`."""

    ilsvrc_id: int
    synset: str
    words: str


def read_meta(path: Path) -> tuple[MetaClass, ...]:
    """Return the classes in the devkit's meta.mat that have images: the leaves of its tree, ids 1..1000.

    Raises:
        DatasetNotFoundError: if there is no such file.
        DatasetError: if the file is not the devkit's meta.mat.
    """
    if not path.is_file():
        raise DatasetNotFoundError(
            f"{path}: the devkit's meta.mat is missing, but it is needed to map the ILSVRC2012 ids in the ground truth "
            "to synsets → copy meta.mat there, or set dataset.val_ground_truth_meta"
        )
    from scipy.io import loadmat

    try:
        rows = loadmat(path, squeeze_me=True, variable_names=["synsets"])["synsets"]
        return tuple(
            MetaClass(int(row["ILSVRC2012_ID"]), str(row["WNID"]), str(row["words"]))
            for row in rows
            if int(row["num_children"]) == 0
        )
    except Exception as error:  # scipy raises many exception types for damaged files
        raise DatasetError(
            f"{path} is not the devkit's meta.mat ({type(error).__name__}: {error}) → use "
            "ILSVRC2012_devkit_t12/data/meta.mat"
        ) from error


def assign_images(truth: GroundTruth, images: Sequence[str], labels: Mapping[str, int]) -> list[tuple[int, str]]:
    """Return the label and path for each line in the ground truth.

    Images that are missing from val/ are included. The scan reports missing images and images without a line.

    Args:
        truth: classes of the val images.
        images: paths below val/.
        labels: labels, keyed by synset.

    Raises:
        ListFileError: if a synset is not a class in train/, or the lines and the images do not match.
    """
    problems = [
        f"{truth.source}:{line}: {quote(synset)}: train/ has no class folder with this name → correct the line, or add "
        "the class to train/"
        for synset, line in zip(truth.synsets, truth.lines, strict=True)
        if synset not in labels
    ]
    by_name: dict[str, str] = {}
    for path in images:
        name = path.rpartition("/")[2]
        if by_name.setdefault(name, path) != path:
            problems.append(
                f"{path} has the same file name as {by_name[name]}, but the ground truth identifies images by file "
                "name → rename one of the images"
            )
    if problems:
        raise ListFileError(problems)
    paths = _paths_by_order(truth, by_name) if truth.names is None else _paths_by_name(truth.names, by_name)
    return [(labels[synset], path) for synset, path in zip(truth.synsets, paths, strict=True)]


def _paths_by_name(names: Sequence[str], images: Mapping[str, str]) -> list[str]:
    paths = {name.rpartition(".")[0]: path for name, path in images.items()}
    return [paths.get(name, f"{name}.JPEG") for name in names]


def _paths_by_order(truth: GroundTruth, images: Mapping[str, str]) -> list[str]:
    """Return the image path for each line.

    Lines are matched by the numbers in ImageNet's file names, or in name order if the images are named differently.
    """
    count = len(truth.synsets)
    numbers = {int(match[1]): path for name, path in images.items() if (match := _VAL_NAME.fullmatch(name)) is not None}
    if len(numbers) == len(images) and images:
        return [numbers.get(number, f"ILSVRC2012_val_{number:08d}.JPEG") for number in range(1, count + 1)]
    if len(images) != count:
        raise ListFileError(
            [
                f"{truth.source} has {pluralize(count, 'line')}, but val/ has {pluralize(len(images), 'image')}, and "
                "some are not named like ILSVRC2012_val_00000001.JPEG → use the complete ground truth for these images"
            ]
        )
    in_order = sorted(images)
    _require_one_order(in_order, truth.source)
    return [images[name] for name in in_order]


def _require_one_order(names: Sequence[str], source: str) -> None:
    """Raise an error if sorting the names numerically, or without regard to case, would change their order.

    Nothing in the file shows which of these orders the lines follow.
    """
    for key, orders in (
        (natural_key, "as text or numerically"),
        (str.casefold, "case-sensitively or case-insensitively"),
    ):
        other = sorted(names, key=key)
        if other != list(names):
            line = next(index for index, (one, two) in enumerate(zip(names, other, strict=True)) if one != two)
            raise ListFileError(
                [
                    f"{source} contains no image names, and the order of the images in val/ is ambiguous: sorted "
                    f"{orders}, line {line + 1} is {quote(names[line])} or {quote(other[line])} → use a file that "
                    "names the images, such as LOC_val_solution.csv (the header `ImageId,PredictionString`, then lines "
                    f"such as `{names[line].rpartition('.')[0]},n01440764`), or write a val_list.txt"
                ]
            )


def _read_solution(text: str, source: str) -> GroundTruth:
    """Parse Kaggle's LOC_val_solution.csv: an image name, then a synset and four numbers per bounding box."""
    names, synsets, lines, problems = [], [], [], []
    first_line: dict[str, int] = {}
    reader = csv.reader(io.StringIO(text))
    next(reader)
    for row in reader:
        line = reader.line_num
        boxes = row[1].split() if len(row) == 2 else []
        classes = sorted(set(boxes[::5]))
        if not row:
            continue
        if len(classes) != 1 or not row[0]:
            finding = f"lists the classes {', '.join(classes)}" if classes else "lists no class"
            problems.append(f"{source}:{line}: {quote(','.join(row))} {finding} → list one class per image")
        elif first_line.setdefault(row[0], line) != line:
            problems.append(f"{source}:{line}: {quote(row[0])} is also on line {first_line[row[0]]} → keep one row")
        else:
            names.append(row[0])
            synsets.append(classes[0])
            lines.append(line)
    if not names:
        problems.append(f"{source} has no rows after its header → write one row per image")
    if problems:
        raise ListFileError(problems)
    return GroundTruth(source, tuple(synsets), tuple(lines), tuple(names))


def _as_synsets(words: Sequence[str], classes: Sequence[MetaClass], source: str) -> list[str]:
    synset_of_id = {str(one.ilsvrc_id): one.synset for one in classes}
    problems = [
        f"{source}:{number}: {quote(word)} is not an ILSVRC2012 id in meta.mat (1..{len(classes)}) → use the ground "
        "truth and meta.mat from the same devkit"
        for number, word in enumerate(words, start=1)
        if word not in synset_of_id
    ]
    if problems:
        raise ListFileError(problems)
    return [synset_of_id[word] for word in words]
