"""Recognizes datasets with labels in files, such as PaddleClas' lists or Hugging Face's metadata.csv."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from resnet50_pipeline.adoption.class_order import name_labels, order_names
from resnet50_pipeline.adoption.found import FoundDataset, LabeledImage
from resnet50_pipeline.adoption.image_index import ImageIndex
from resnet50_pipeline.adoption.split_names import LIST_NAMES, split_of_name
from resnet50_pipeline.adoption.tables import (
    SPLIT_COLUMNS,
    Table,
    find_label_column,
    find_path_column,
    read_list,
    read_table,
)
from resnet50_pipeline.exceptions import DatasetError, ListFileError
from resnet50_pipeline.imagenet.lists.files import Split
from resnet50_pipeline.text import list_names

_MOST_NAMED = 3
_TableRow = tuple[Split | None, str, str, str]
"""Split, path, class name and group of an image."""


@dataclass(frozen=True)
class Choices:
    """The user's options for reading a dataset.

    Attributes:
        label_column: column with the labels in a table; None to detect it.
        group_by: column of a table, or regular expression for paths. Images with the same value stay in one split.
    """

    label_column: str | None = None
    group_by: str | None = None


def find_paddleclas_lists(images: ImageIndex, _: Choices) -> FoundDataset | None:
    """Find PaddleClas' lists: one line per image, with path and label separated by a space or tab. Labels are kept."""
    root = images.root
    files = {
        split: path
        for split, names in LIST_NAMES.items()
        if (path := next((root / name for name in names if (root / name).is_file()), None)) is not None
    }
    if "train" not in files:
        return None
    try:
        return _read_paddleclas_lists(images, files)
    except DatasetError as error:
        if files["train"].name == LIST_NAMES["train"][0]:
            raise
        images.hints.append(str(error))  # other programs write files named train.txt too
        return None


def _read_paddleclas_lists(images: ImageIndex, files: Mapping[Split, Path]) -> FoundDataset:
    root = images.root
    entries, notes = {}, []
    for split, path in files.items():
        try:
            entries[split] = read_list(path)
        except ListFileError:
            if split != "test":
                raise
            notes.append(f"{path.name} has no labels and was ignored")
    classes, base, names = name_labels([label for one in entries.values() for label in one.labels.tolist()], root)
    splits: dict[Split, list[LabeledImage]] = {}
    for split, one in entries.items():
        missing = []
        splits[split] = []
        for name, label in zip(one.paths, one.labels.tolist(), strict=True):
            path_found = images.resolve(name, ("", split))
            if path_found is None:
                missing.append(name)
            else:
                splits[split].append(LabeledImage(path_found, label - base))
        notes += _note_missing(files[split].name, missing, len(one))
    return FoundDataset("PaddleClas' lists", classes, splits, (*names, *notes))


def find_metadata(images: ImageIndex, choices: Choices) -> FoundDataset | None:
    """Find Hugging Face's imagefolder with metadata.csv, in the folder or in each split's folder."""
    files = [name for name in images.tables if name.rpartition("/")[2] == "metadata.csv"]
    return _read_tables(images, files, choices, "Hugging Face's imagefolder with metadata.csv") if files else None


def find_tables(images: ImageIndex, choices: Choices) -> FoundDataset | None:
    """Find CSV and TSV files in the dataset folder that label its images."""
    files = [name for name in images.tables if name.endswith((".csv", ".tsv")) and "/" not in name]
    return _read_tables(images, files, choices, "a table") if files else None


def _read_tables(images: ImageIndex, files: Sequence[str], choices: Choices, layout: str) -> FoundDataset | None:
    rows: list[_TableRow] = []
    notes: list[str] = []
    used = []
    for name in files:
        try:
            table = read_table(images.root, name)
        except ListFileError as error:
            images.hints.append(str(error))
            continue
        if table is None:
            continue
        tops = (path.partition("/")[0] for path in images.paths if "/" in path)
        folders = tuple(dict.fromkeys((table.folder, "", *tops)))
        path_column = find_path_column(table, images, folders)
        split = split_of_name(name.rpartition("/")[2].rpartition(".")[0]) or split_of_name(table.folder)
        if path_column is None:
            images.hints.append(f"{name}: in most rows, no column refers to an existing image")
            continue
        read = _read_table_rows(table, images, path_column, choices, folders)
        if read is None:
            images.hints.append(_explain_unused(table, images, path_column, choices, folders))
            continue
        found, missing = read
        used.append(name)
        rows += [(split or row_split, path, key, group) for row_split, path, key, group in found]
        notes += _note_missing(name, missing, len(table.rows))
    if not rows:
        return None
    if len({path for _, path, _, _ in rows}) < len(rows):
        counts = Counter(path for _, path, _, _ in rows)
        path, count = counts.most_common(1)[0]
        raise DatasetError(
            f"{', '.join(used)}: {path} is in {count} rows, but an image can have only one label → remove the extra "
            "rows"
        )
    rows = _complete_splits(rows, used)
    keys = [key for _, _, key, _ in rows]
    if all(re.fullmatch(r"[0-9]{1,6}(\.0+)?", key) for key in keys):  # pandas may write 3 as 3.0
        classes, base, more = name_labels([int(float(key)) for key in keys], images.root)
        label_of = {key: int(float(key)) - base for key in keys}
    else:
        classes, more = order_names(keys, images.root)
        label_of = {one.key: label for label, one in enumerate(classes)}
    splits: dict[Split, list[LabeledImage]] = defaultdict(list)
    for split_of_row, path, key, group in sorted(rows, key=lambda row: row[1]):
        splits[split_of_row or "train"].append(LabeledImage(path, label_of[key], group))
    return FoundDataset(f"{layout} ({', '.join(used)})", classes, dict(splits), (*more, *notes))


def _complete_splits(rows: list[_TableRow], used: Sequence[str]) -> list[_TableRow]:
    """Return the rows with their splits, taken from the tables or folders, or inferred from the other splits.

    Raises:
        DatasetError: if only some rows have a split, or if none belongs to train.
    """
    known = {split for split, *_ in rows}
    if known == {None}:
        # Without splits in the tables, the images' folders determine them, provided that every folder does.
        by_folder = [(split_of_name(path.partition("/")[0]), path, key, group) for _, path, key, group in rows]
        known = {split for split, *_ in by_folder}
        return by_folder if "train" in known and None not in known else rows
    # If val has its own table, rows without a split belong to train. Any other assumption would be a guess.
    if ("train" in known) == (None in known):
        problem = "some rows have a split, but others do not" if None in known else "no row belongs to train"
        raise DatasetError(f"{', '.join(used)}: {problem} → add a `split` column with train, val or test in every row")
    return rows


def _explain_unused(
    table: Table, images: ImageIndex, path_column: str, choices: Choices, folders: Sequence[str]
) -> str:
    """Explain why a table that names images cannot be used."""
    if images.resolve(path_column, folders) is not None:
        return f"{table.path}: the first line already names an image → add a header line, such as path,label"
    if choices.label_column is not None:
        return (
            f"--label-column {choices.label_column}: {table.path} has no such column → choose from "
            f"{', '.join(table.columns)}"
        )
    others = ", ".join(column for column in table.columns if column != path_column)
    return (
        f"{table.path}: images are in column {path_column}, but it is unclear which other column ({others}) contains "
        "the labels → choose one with --label-column"
    )


def _read_table_rows(
    table: Table, images: ImageIndex, path_column: str, choices: Choices, folders: Sequence[str]
) -> tuple[list[_TableRow], list[str]] | None:
    """Return the split, path, class name and group of each row, and the names of missing images.

    Return None if it is unclear which column contains the labels, or if there is no header; see `_explain_unused`.
    """
    if images.resolve(path_column, folders) is not None or choices.label_column not in (None, *table.columns):
        return None
    group_column = choices.group_by if choices.group_by in table.columns else None
    split_column = _find_split_column(table)
    taken = [name for name in (group_column, split_column) if name is not None]
    label_column = find_label_column(table, path_column, choices.label_column, taken)
    if label_column is None:
        return None
    found: list[_TableRow] = []
    missing = []
    for number, row in enumerate(table.rows, start=2):
        path, key = images.resolve(row[path_column], folders), row[label_column].strip()
        if path is None:
            missing.append(row[path_column])
            continue
        if not key:
            raise DatasetError(
                f"{table.path}:{number}: {row[path_column]} has no value for {label_column} → enter a value"
            )
        if "\t" in key or "\n" in key:
            raise DatasetError(
                f"{table.path}:{number}: the class name {key!r} contains a tab or line break → remove this character"
            )
        split = split_of_name(row[split_column]) if split_column else None
        found.append((split, path, key, row[group_column].strip() if group_column else ""))
    return found, missing


def _find_split_column(table: Table) -> str | None:
    """Return the column that contains the split of each row, or None.

    Raises:
        DatasetError: if a column contains a split for only some rows.
    """
    for name in table.columns:
        if name.strip().lower() not in SPLIT_COLUMNS:
            continue
        values = sorted({row[name] for row in table.rows})
        unknown = [value for value in values if split_of_name(value) is None]
        if not unknown:
            return name
        if len(unknown) < len(values):
            raise DatasetError(
                f"{table.path}: column {name} contains {unknown[0]!r}, which is not a split → use train, val or test "
                "in every row, or rename the column"
            )
    return None


def _note_missing(source: str, missing: Sequence[str], total: int) -> list[str]:
    if not missing:
        return []
    if len(missing) == total:
        raise DatasetError(
            f"{source} refers to missing images, such as {missing[0]!r} → check that the file belongs to this folder"
        )
    names = list_names([repr(name) for name in missing], _MOST_NAMED)
    return [f"skipped {len(missing):,} of {total:,} rows of {source} because their images do not exist ({names})"]
