r"""The classes of a flat val folder, from the files in which ImageNet gives them.

    ILSVRC2012_validation_ground_truth.txt    `490`: an ILSVRC2012 id a line, which the devkit's meta.mat explains
    LOC_val_solution.csv                      `ILSVRC2012_val_00048981,n03995372 85 1 499 272`, Kaggle's
    any other text                            `n01751748`: a synset a line

Lines without a name are those of the images in the order of their names. ILSVRC2012 ids are not labels: the ids follow
the devkit's own order, the labels the sorted synsets.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from resnet50_pipeline.exceptions import DatasetError, DatasetNotFoundError, ListFileError
from resnet50_pipeline.imagenet.list_problems import shown

META_FILE = "meta.mat"
_CSV_HEADER = ["ImageId", "PredictionString"]
_VAL_NAME = re.compile(r"ILSVRC2012_val_([0-9]{8})\.[A-Za-z]+")


@dataclass(frozen=True)
class GroundTruth:
    """The class of each val image.

    Attributes:
        source: the file, for messages.
        synsets: [N] of the lines, in their order.
        lines: [N] line numbers, 1-based.
        names: [N] of the images, without folder and suffix; None where the lines follow the order of the images' names.
    """

    source: str
    synsets: tuple[str, ...]
    lines: tuple[int, ...]
    names: tuple[str, ...] | None = None


def read_ground_truth(path: Path, meta: Path | None = None) -> GroundTruth:
    """Read a file of val classes, in whichever of the three forms it is.

    Args:
        path: a text file.
        meta: the devkit's meta.mat; by default the one beside `path`.

    Raises:
        DatasetNotFoundError: there is no such file, or meta.mat is needed and not there.
        ListFileError: with every line that breaks the form.
        DatasetError: meta.mat cannot be read.
    """
    if not path.is_file():
        raise DatasetNotFoundError(f"{path}: there is no such file → correct dataset.val_ground_truth")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ListFileError([f"{path}: byte {error.start}: not UTF-8 → save the file as UTF-8"]) from error
    lines = text.rstrip().splitlines()
    if not lines:
        raise ListFileError([f"{path}: the file is empty → it needs one line an image"])
    if lines[0].split(",") == _CSV_HEADER:
        return _read_solution(text, str(path))
    words = [line.strip() for line in lines]
    if re.fullmatch(r"[0-9]+", words[0]):
        words = _as_synsets(words, read_meta(meta or path.with_name(META_FILE)), str(path))
    problems = [
        f"{path}:{number}: {shown(word)}: is not one synset, such as n01440764 → write one a line"
        for number, word in enumerate(words, start=1)
        if len(word.split()) != 1
    ]
    if problems:
        raise ListFileError(problems)
    return GroundTruth(str(path), tuple(words), tuple(range(1, len(words) + 1)))


@dataclass(frozen=True)
class MetaClass:
    """One class of the devkit's meta.mat: `1, n02119789, "kit fox, Vulpes macrotis"`."""

    ilsvrc_id: int
    synset: str
    words: str


def read_meta(path: Path) -> tuple[MetaClass, ...]:
    """Return the classes of the devkit's meta.mat that have images: the leaves of its tree, ids 1..1000.

    Raises:
        DatasetNotFoundError: there is no such file.
        DatasetError: it is not the devkit's.
    """
    if not path.is_file():
        raise DatasetNotFoundError(
            f"{path}: the devkit's meta.mat is not there, without which the numbers of its ground truth mean "
            "nothing (they are ILSVRC2012 ids, not labels) → put it there, or set dataset.val_ground_truth_meta"
        )
    from scipy.io import loadmat

    try:
        rows = loadmat(path, squeeze_me=True, variable_names=["synsets"])["synsets"]
        return tuple(
            MetaClass(int(row["ILSVRC2012_ID"]), str(row["WNID"]), str(row["words"]))
            for row in rows
            if int(row["num_children"]) == 0
        )
    except Exception as error:  # scipy raises whatever damaged bytes lead it to
        raise DatasetError(
            f"{path}: is not the devkit's meta.mat ({type(error).__name__}: {error}) → take the file "
            "ILSVRC2012_devkit_t12/data/meta.mat"
        ) from error


def assign_images(truth: GroundTruth, images: Sequence[str], labels: Mapping[str, int]) -> list[tuple[int, str]]:
    """Return label and path of each line of the ground truth.

    An image that a line names and that is not there is named all the same, for the scan to say that it is missing;
    images that no line names are left to the scan as well.

    Args:
        truth: of the val images.
        images: paths below val/.
        labels: by synset.

    Raises:
        ListFileError: with every line whose synset no class has, or the one reason why lines and images do not match.
    """
    problems = [
        f"{truth.source}:{line}: {shown(synset)}: train/ has no class folder of this name → correct the line, or add "
        "the class to train/"
        for synset, line in zip(truth.synsets, truth.lines, strict=True)
        if synset not in labels
    ]
    by_name: dict[str, str] = {}
    for path in images:
        name = path.rpartition("/")[2]
        if by_name.setdefault(name, path) != path:
            problems.append(f"{path}: has the name of {by_name[name]}, but the ground truth goes by names → rename one")
    if problems:
        raise ListFileError(problems)
    paths = _paths_by_order(truth, by_name) if truth.names is None else _paths_by_name(truth.names, by_name)
    return [(labels[synset], path) for synset, path in zip(truth.synsets, paths, strict=True)]


def _paths_by_name(names: Sequence[str], images: Mapping[str, str]) -> list[str]:
    paths = {name.rpartition(".")[0]: path for name, path in images.items()}
    return [paths.get(name, f"{name}.JPEG") for name in names]


def _paths_by_order(truth: GroundTruth, images: Mapping[str, str]) -> list[str]:
    """Return the path of each line: by the number in the name where all are ImageNet's, else by the order of names."""
    count = len(truth.synsets)
    numbers = {int(match[1]): path for name, path in images.items() if (match := _VAL_NAME.fullmatch(name)) is not None}
    if len(numbers) == len(images) and images:
        return [numbers.get(number, f"ILSVRC2012_val_{number:08d}.JPEG") for number in range(1, count + 1)]
    if len(images) != count:
        raise ListFileError(
            [
                f"{truth.source}: has {count} lines, but val/ has {len(images)} images, which are not named "
                "ILSVRC2012_val_00000001.JPEG and so on → both must be of one data set and whole"
            ]
        )
    return [images[name] for name in sorted(images)]


def _read_solution(text: str, source: str) -> GroundTruth:
    """Return the rows of Kaggle's LOC_val_solution.csv: a name, and for each box synset and four numbers."""
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
            finding = f"names the classes {', '.join(classes)}" if classes else "has no class"
            problems.append(f"{source}:{line}: {shown(','.join(row))}: {finding} → each image needs one")
        elif first_line.setdefault(row[0], line) != line:
            problems.append(f"{source}:{line}: {shown(row[0])}: also on line {first_line[row[0]]} → delete one of them")
        else:
            names.append(row[0])
            synsets.append(classes[0])
            lines.append(line)
    if not names:
        problems.append(f"{source}: has no row behind its header → it needs one an image")
    if problems:
        raise ListFileError(problems)
    return GroundTruth(source, tuple(synsets), tuple(lines), tuple(names))


def _as_synsets(words: Sequence[str], classes: Sequence[MetaClass], source: str) -> list[str]:
    synset_of_id = {str(one.ilsvrc_id): one.synset for one in classes}
    problems = [
        f"{source}:{number}: {shown(word)}: is no ILSVRC2012 id of meta.mat (1..{len(classes)}) → take both files of "
        "the same devkit"
        for number, word in enumerate(words, start=1)
        if word not in synset_of_id
    ]
    if problems:
        raise ListFileError(problems)
    return [synset_of_id[word] for word in words]
