"""Reads and writes fix lists: CSV files that say what to do with individual images.

path,action,label,reason
n00000003/n00000003_17.JPEG,relabel,8,predicted as eight with 99%
n00000005/n00000005_4.JPEG,drop,,blank
val/n00000001/n00000001_9.JPEG,keep,,checked
"""

from __future__ import annotations

import csv
import io
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

from resnet50_pipeline.exceptions import DatasetNotFoundError, ListFileError
from resnet50_pipeline.files import shorten_path, write_text
from resnet50_pipeline.imagenet.lists.files import Split
from resnet50_pipeline.imagenet.lists.problems import quote

Action = Literal["keep", "drop", "relabel", "move"]
ACTIONS: tuple[Action, ...] = get_args(Action)
COLUMNS = ("path", "action", "label", "reason")
SPLIT_COLUMN = "split"
_SPLITS: tuple[Split, ...] = get_args(Split)


@dataclass(frozen=True)
class Fix:
    """One row of a fix list.

    Attributes:
        path: path of the image, as in the user's list or relative to the dataset root.
        action: `keep` changes nothing; `drop` removes the image from its list; `relabel` assigns a different class;
            `move` moves the image from train to val or from val to train.
        label: the new class as a label (0-based), a class folder or a class name; only for `relabel`.
        reason: free text.
        split: list to change; None if only one list contains the image.
    """

    path: str
    action: Action
    label: str = ""
    reason: str = ""
    split: Split | None = None


@dataclass(frozen=True)
class ReviewCommands:
    """The commands that turn findings into a patch.

    Attributes:
        review: command that opens the findings on a page, where a person decides about each image.
        fix: command that applies the decisions.
    """

    review: str
    fix: str


def make_review_commands(
    findings: Path, reviewed: Path, environment: str | None, dataset_root: str | None = None
) -> ReviewCommands:
    """Return the commands for a file with findings.

    Args:
        findings: a fix list or a `findings.jsonl`.
        reviewed: fix list to which `kedro review` saves the decisions.
        environment: Kedro environment; None for the default environment.
        dataset_root: `dataset.root` from `--params`, or None if it comes from the environment.
    """
    options = [] if environment is None else ["--env", environment]
    options += [] if dataset_root is None else ["--params", f"dataset.root={dataset_root}"]
    return ReviewCommands(
        shlex.join(["kedro", "review", str(shorten_path(findings)), *options]),
        shlex.join(["kedro", "data-fix", str(shorten_path(reviewed)), *options]),
    )


def read_fixes(path: Path) -> list[Fix]:
    """Read a fix list. The column `split` is optional, and unknown columns are ignored.

    Labels in rows with the action `keep` or `drop` are ignored.

    Raises:
        DatasetNotFoundError: if the file does not exist.
        ListFileError: if a column is missing or a row is invalid; the message lists each problem with its line.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DatasetNotFoundError(f"{path} cannot be read ({error.strerror}) → correct the path") from error
    except UnicodeDecodeError as error:
        raise ListFileError([f"{path}: the file is not UTF-8 ({error.reason}) → save it as CSV in UTF-8"]) from error
    reader = csv.DictReader(io.StringIO(text, newline=""), restkey="", restval="")
    try:
        rows = [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        raise ListFileError([f"{path}:{reader.line_num}: invalid CSV ({error}) → correct the line"]) from error
    missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
    if missing:
        found = ", ".join(reader.fieldnames or ()) or "none"
        raise ListFileError(
            [
                f"{path}:1: the columns {', '.join(missing)} are missing (found: {found}) → start the file with the "
                f"line {','.join(COLUMNS)}"
            ]
        )
    problems: list[str] = []
    fixes: list[Fix] = []
    for line, row in rows:
        cells = {name: row.get(name, "").strip() for name in ("action", "label", "reason", SPLIT_COLUMN)}
        problem = _find_problem(row, cells)
        if problem is not None:
            problems.append(f"{path}:{line}: {problem}")
            continue
        action = next(one for one in ACTIONS if one == cells["action"])
        split = next((one for one in _SPLITS if one == cells[SPLIT_COLUMN]), None)
        fixes.append(Fix(row["path"], action, cells["label"] if action == "relabel" else "", cells["reason"], split))
    if problems:
        raise ListFileError(problems)
    return fixes


def _find_problem(row: Mapping[str, str], cells: Mapping[str, str]) -> str | None:
    """Return the problem with a row, or None. The values in `cells` have been stripped."""
    action, label, split = cells["action"], cells["label"], cells[SPLIT_COLUMN]
    known = f"use one of {', '.join(_SPLITS)}, or leave the cell empty"
    problems = {
        "more cells than columns → quote text that contains a comma": row.get(""),
        "the path is empty → enter the path of an image in the lists": not row["path"],
        f"unknown action {quote(action)} → use one of {', '.join(ACTIONS)}": action not in ACTIONS,
        "relabel needs a label → write the new class, or use another action": action == "relabel" and not label,
        f"move keeps the label, but the row has {quote(label)} → leave the label empty": action == "move" and label,
        f"unknown split {quote(split)} → {known}": split and split not in _SPLITS,
    }
    return next((problem for problem, is_found in problems.items() if is_found), None)


def render_fixes(fixes: Iterable[Fix]) -> str:
    """Return the text of a fix list. The column `split` is included only if a row needs it."""
    rows = list(fixes)
    columns = (*COLUMNS, SPLIT_COLUMN) if any(one.split for one in rows) else COLUMNS
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(one) for one in rows)
    return text.getvalue()


def write_fixes(path: Path, fixes: Iterable[Fix]) -> None:
    """Write a fix list atomically."""
    write_text(path, render_fixes(fixes))
