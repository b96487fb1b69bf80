"""Records a sweep in MLflow as a run. The trial runs are its child runs."""

from __future__ import annotations

from collections.abc import Mapping

from resnet50_pipeline.child_runs.parent_run import ChildRow, describe_parent
from resnet50_pipeline.child_runs.run_file import training_dir_of
from resnet50_pipeline.reporting.run_pages.sweep_page import format_cell
from resnet50_pipeline.sweeps.study import Study, find_best, summarize
from resnet50_pipeline.tracking.delivery.curve_cursor import read_session
from resnet50_pipeline.tracking.runs import TrackedRun

_TRIALS_DESCRIBED = 5


def record_trial(parent: TrackedRun, study: Study, number: int) -> None:
    """Tag a trial's run with the trial's state, and add the trial to the tags and curves of the sweep's run."""
    rows = study.rows()
    trial, best = rows[number], find_best(rows)
    # The MLflow status does not show the state: the run of a pruned trial, for example, is KILLED.
    if session := read_session(training_dir_of(study.trial_folder(number))):
        parent.tag_run(session, {"sweep.state": trial.state})
    if trial.state == "complete" and trial.value is not None:
        parent.log_metrics({"sweep/value": trial.value}, step=number)
    if best is not None and best.value is not None:
        parent.log_metrics({"sweep/best_value": best.value}, step=number)
        values = {f"sweep.best.{path}": str(value) for path, value in best.params.items()}
        parent.set_tags({"sweep.best_trial": str(best.number), **values})
    describe_sweep(parent, study, {})


def describe_sweep(parent: TrackedRun, study: Study, files: Mapping[str, str]) -> None:
    """Describe the sweep's run in MLflow: the best trial, a table of the best trials with links, and artifacts.

    Args:
        parent: the sweep's run.
        study: the study.
        files: artifacts to link to, keyed by title.
    """
    rows, metric, paths = study.rows(), study.parameters.metric, list(study.parameters.space)
    ranked = sorted((row for row in rows if row.rank is not None), key=lambda row: row.rank or 0)
    describe_parent(
        parent,
        summarize(rows, study.parameters),
        ["best trials", metric, *(f"`{path}`" for path in paths)],
        [
            ChildRow(
                f"trial {row.number}",
                [f"{row.value:.4f}", *(format_cell(row.params.get(path)) for path in paths)],
                study.trial_folder(row.number),
            )
            for row in ranked[:_TRIALS_DESCRIBED]
        ],
        files,
    )
