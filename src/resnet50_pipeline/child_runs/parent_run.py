"""Makes the MLflow run of a `kedro run` a child of this process's MLflow run, and describes this parent run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from resnet50_pipeline.child_runs.run_file import training_dir_of
from resnet50_pipeline.reporting.run_pages.results import Link, render_parent_note
from resnet50_pipeline.tracking.delivery.curve_cursor import read_run_id
from resnet50_pipeline.tracking.pages import artifact_page, run_page
from resnet50_pipeline.tracking.parent import (
    KIND_VARIABLE,
    NAME_VARIABLE,
    RUN_NAME_VARIABLE,
    SESSION_VARIABLE,
    TAGS_VARIABLE,
)
from resnet50_pipeline.tracking.runs import TrackedRun


def child_environment(
    parent: TrackedRun, kind: Literal["sweep", "folds"], title: str, name: str, tags: Mapping[str, str]
) -> dict[str, str]:
    """Return the environment variables that make a `kedro run` a child run.

    Args:
        parent: this process's run. Its results and end are recorded by this process, not by its children.
        kind: program that starts the child runs.
        title: last part of the parent's name.
        name: last part of the child's name, such as `trial 3`.
        tags: tags of the child run.
    """
    return {
        SESSION_VARIABLE: parent.session,
        KIND_VARIABLE: kind,
        NAME_VARIABLE: title,
        RUN_NAME_VARIABLE: name,
        TAGS_VARIABLE: json.dumps(dict(tags)),
    }


@dataclass(frozen=True)
class ChildRow:
    """A row in the table of child runs.

    Attributes:
        name: name of the child run, which becomes a link to its page.
        cells: the other cells.
        folder: folder of the child run.
    """

    name: str
    cells: Sequence[str]
    folder: Path


def describe_parent(
    parent: TrackedRun, result: str, head: Sequence[str], rows: Sequence[ChildRow], files: Mapping[str, str]
) -> None:
    """Set the description of this process's run in MLflow. Do nothing if MLflow is unavailable.

    Args:
        parent: this process's run.
        result: the most important result.
        head: headings of the table of child runs.
        rows: rows of the table.
        files: artifacts of the run to link to, keyed by title.
    """
    stored = parent.read()
    if stored is None:
        return
    table = [list(head)]
    for row in rows:
        child = read_run_id(training_dir_of(row.folder))
        name = row.name if child is None else f"[{row.name}]({run_page(stored.experiment_id, child).removeprefix('/')})"
        table.append([name, *row.cells])
    links = [
        Link(title, artifact_page(stored.experiment_id, str(parent.run_id), artifact).removeprefix("/"))
        for title, artifact in files.items()
    ]
    parent.describe(render_parent_note(result, table, links), stored)
