r"""Reads lists and tables that label images.

jpg/image_00001.jpg 76              a PaddleClas list, with path and label separated by a space or tab
file_name,label,patient             a CSV or TSV file with a header; Hugging Face calls it metadata.csv
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from resnet50_pipeline.adoption.image_index import ImageIndex
from resnet50_pipeline.exceptions import ListFileError
from resnet50_pipeline.imagenet.lists.files import ListEntries, parse_list
from resnet50_pipeline.imagenet.lists.text_file import read_text_file

# Names of label columns. The most specific names are last, because a table can contain both a number and a name for
# each class.
LABEL_COLUMNS = (
    *("label", "labels", "class", "class_name", "label_name", "category", "target", "y"),
    *("species", "breed", "diagnosis", "dx", "variety", "tag"),
)
SPLIT_COLUMNS = ("split", "subset", "set", "partition", "fold_name")
_SAMPLED_ROWS = 200


@dataclass(frozen=True)
class Table:
    """A CSV or TSV file.

    Attributes:
        path: path of the file relative to the dataset folder.
        columns: names in the header.
        rows: values, keyed by column.
    """

    path: str
    columns: Sequence[str]
    rows: Sequence[Mapping[str, str]]

    @property
    def folder(self) -> str:
        """Folder of the file, relative to the dataset folder."""
        return self.path.rpartition("/")[0]


def read_list(path: Path) -> ListEntries:
    """Read a list with `path label` lines. Unlike `read_list_file`, accept tabs on every line.

    Raises:
        ListFileError: if any line is invalid; the message lists each one.
    """
    data = path.read_bytes()
    lines = data.rstrip(b"\r\n").split(b"\n")
    if all(line.count(b"\t") == 1 and b" " not in line for line in lines):
        data = data.replace(b"\t", b" ")
    elif all(line.count(b"\t") == 0 for line in lines) and any(line.count(b" ") > 1 for line in lines):
        # The label is the last field, so paths with spaces are unambiguous, although PaddleClas cannot read them.
        data = b"\n".join(b"\t".join(line.rstrip(b"\r").rsplit(b" ", 1)) for line in lines) + b"\n"
    return parse_list(data, None, source=str(path))


def read_table(root: Path, path: str) -> Table | None:
    """Read a table with a header, or return None if the file has only one column.

    Raises:
        ListFileError: if the file is not UTF-8 or is not a table.
    """
    text = read_text_file(root / path)
    header = text.partition("\n")[0]
    delimiter = max("\t,;", key=header.count)
    reader = csv.DictReader(io.StringIO(text), delimiter=delimiter, restval="")
    try:
        columns = [name for name in reader.fieldnames or () if name]
        if len(columns) < 2:
            return None
        if repeated := [name for name, count in Counter(columns).items() if count > 1]:
            raise ListFileError([f"{root / path}:1: several columns are named {repeated[0]} → rename all but one"])
        return Table(path, columns, [{name: row[name] or "" for name in columns} for row in reader])
    except csv.Error as error:
        raise ListFileError([f"{root / path}:{reader.line_num + 1}: {error} → correct the line"]) from error


def find_path_column(table: Table, images: ImageIndex, folders: Sequence[str]) -> str | None:
    """Return the column whose values mostly refer to images in the dataset, or None.

    A label such as 7 can also be an image's name, so prefer the column that refers to the most distinct images.
    """
    rows = table.rows[:_SAMPLED_ROWS]
    hits = {name: [images.resolve(row[name], folders) for row in rows] for name in table.columns}
    best = max(table.columns, key=lambda name: len({*hits[name]} - {None}))
    return best if sum(path is not None for path in hits[best]) * 2 > len(rows) else None


def find_label_column(table: Table, path_column: str, chosen: str | None, others: Sequence[str]) -> str | None:
    """Return `chosen`, the only remaining column, or a column with a usual label name; None if the choice is ambiguous.

    A column whose values are mostly distinct, such as captions, does not contain labels.

    Args:
        table: the table.
        path_column: column with the paths.
        chosen: the column that the user chose, which must be in the table, or None.
        others: columns that cannot contain labels, such as the group column.
    """
    if chosen is not None:
        return chosen
    left = [name for name in table.columns if name not in (path_column, *others)]
    by_name = {name.strip().lower(): name for name in reversed(left)}
    found = left[0] if len(left) == 1 else next((by_name[name] for name in LABEL_COLUMNS if name in by_name), None)
    if found is not None and len(table.rows) > 10 and len({row[found] for row in table.rows}) * 2 > len(table.rows):
        return None
    return found
