"""Orders the classes of a dataset, and reads the class names from a file if there is one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from resnet50_pipeline.exceptions import DatasetError
from resnet50_pipeline.imagenet.lists.class_file import ListedClass, read_class_file

NAME_FILES = ("classes.txt", "class_names.txt", "*label_list.txt")
_NUMBER = re.compile(r"-?[0-9]{1,9}")
# Labels are positions of classes. A much larger number is probably something else, such as a year or an ID.
_MOST_GAPS = 100
_FEW_CLASSES = 1000
_NUMBERED = re.compile(r"([0-9]{1,9})[ \t:,]+(.*\S)")


def are_numbers(names: Iterable[str]) -> bool:
    """Return whether the names are distinct integers, such as `0` to `10`."""
    names = list(names)
    return all(_NUMBER.fullmatch(name) for name in names) and len({int(name) for name in names}) == len(names)


def order_names(names: Iterable[str], root: Path) -> tuple[tuple[ListedClass, ...], tuple[str, ...]]:
    """Return the classes in the order of their labels, with a note if that order may be surprising.

    A class names file determines the order if there is one. Otherwise, the names are sorted as numbers if all of them
    are numbers, and as text if not.

    Raises:
        ListFileError: if the class names file is invalid.
    """
    unique = sorted(set(names))
    given = read_names(root)
    if given and set(unique) <= {one.key for one in given[1]}:
        path, classes = given
        return classes, (f"labels follow {path.name}",)
    if are_numbers(unique):
        unique.sort(key=int)
        note = f"the class names are numbers, so labels follow numeric order: label 0 is {unique[0]}"
        return tuple(ListedClass(name, name) for name in unique), (note + f", label {len(unique) - 1} is {unique[-1]}",)
    return tuple(ListedClass(name, name) for name in unique), ()


def name_labels(labels: Sequence[int], root: Path) -> tuple[tuple[ListedClass, ...], int, tuple[str, ...]]:
    """Return the classes for the given integer labels, the label of the first class (0 or 1), and any notes.

    Labels are kept as they are: class N has label N, or label N + 1 if the labels start at 1 and have no gaps.

    Raises:
        DatasetError: if the labels are too large to be positions of classes.
        ListFileError: if the class names file is invalid.
    """
    found = sorted(set(labels))
    base = 1 if found[0] == 1 and found == list(range(1, len(found) + 1)) else 0
    notes = ["labels in the lists start at 1, so 1 was subtracted"] if base else []
    count = found[-1] + 1 - base
    if count > max(_FEW_CLASSES, _MOST_GAPS * len(found)):
        raise DatasetError(
            f"{root}: the largest label is {found[-1]}, but there are only {len(found):,} different labels → number "
            "the classes from 0 without gaps"
        )
    given = read_names(root)
    if given and len(given[1]) >= count:
        notes.append(f"class names come from {given[0].name}")
        classes = given[1]
    else:
        classes = tuple(ListedClass(str(label + base), str(label + base)) for label in range(count))
    if missing := len(classes) - len(found):
        names = [classes[label - base].key for label in range(base, len(classes) + base) if label not in set(found)]
        notes.append(f"{missing} of {len(classes)} classes have no images ({', '.join(names[:3])})")
    return classes, base, tuple(notes)


def read_names(root: Path) -> tuple[Path, tuple[ListedClass, ...]] | None:
    """Return the first of `NAME_FILES` in the dataset folder and the classes in it, or None if there is no such file.

    Each line contains a name, or a number and a name (`0 rose`), as in PaddleClas' `label_list.txt`.

    Raises:
        ListFileError: if the file is invalid.
    """
    path = next((path for name in NAME_FILES for path in sorted(root.glob(name)) if path.is_file()), None)
    if path is None:
        return None
    classes = read_class_file(path)
    matches = [_NUMBERED.fullmatch(one.key if one.key == one.name else f"{one.key}\t{one.name}") for one in classes]
    numbered = [(int(match[1]), match[2]) for match in matches if match is not None]
    if len(numbered) < len(classes):
        return path, classes
    numbered.sort()
    is_count = [number for number, _ in numbered] in (list(range(len(numbered))), list(range(1, len(numbered) + 1)))
    return path, tuple(ListedClass(name, name) for _, name in numbered) if is_count else classes
