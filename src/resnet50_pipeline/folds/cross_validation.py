"""Runs the unfinished folds one after another, as child runs of a single MLflow run."""

from __future__ import annotations

import logging
import time
from dataclasses import replace

from resnet50_pipeline.child_runs.kedro_run import describe_end, run_kedro, wait_for_orphan
from resnet50_pipeline.child_runs.parent_run import ChildRow, child_environment, describe_parent
from resnet50_pipeline.exceptions import FoldFailedError, OutputDirectoryInUseError, ParameterError
from resnet50_pipeline.files import write_text
from resnet50_pipeline.folds.plan import FoldsPlan
from resnet50_pipeline.folds.results import (
    METRICS,
    FoldResult,
    read_result,
    save_result,
    summarize,
    write_out_of_fold_predictions,
    write_table,
)
from resnet50_pipeline.frozen_model import FrozenModel
from resnet50_pipeline.processes.locks import claiming
from resnet50_pipeline.text import pluralize
from resnet50_pipeline.tracking.delivery.operations import EndState
from resnet50_pipeline.tracking.runs import RunDescription, TrackedRun, open_run

logger = logging.getLogger(__name__)

_STATE = "folds.json"
_MOST_DIFFERENCES = 5


class State(FrozenModel):
    """The state from which a later command continues.

    Attributes:
        session: key of the MLflow run.
        definition: everything that affects the results; see `FoldsPlan.describe`.
        is_recorded: whether the MLflow run contains the results of all folds.
    """

    session: str
    definition: dict[str, str]
    is_recorded: bool = False


def run_folds(plan: FoldsPlan, description: RunDescription) -> list[FoldResult]:
    """Run the missing folds, record the mean and the spread, and return the results of all folds.

    Raises:
        ParameterError: if earlier folds were trained with other parameters or lists.
        FoldFailedError: if a fold's run failed.
        OutputDirectoryInUseError: if another process is running the folds.
        RunInterruptedError: if this process received a signal. The running fold saves a checkpoint set first.
    """
    plan.folder.mkdir(parents=True, exist_ok=True)
    with claiming(plan.folder / ".folds.lock") as holder:
        if holder is not None:
            raise OutputDirectoryInUseError(
                f"{plan.folder}: process {holder} is running these folds → wait until that process ends"
            )
        state = _read_state(plan)
        if state is None:
            state = State(session=description.session, definition=plan.describe())
            _write_state(plan, state)
        else:
            if state.is_recorded:
                return _read_results(plan)
            description = replace(description, session=state.session, continues=state.session)
        parent = open_run(description, plan.tracking, plan.project_path)
        end: EndState = "KILLED"
        try:
            for number in range(1, len(plan.lists) + 1):
                if read_result(plan.fold_folder(number)) is None:
                    _run_fold(plan, parent, number)
            results = _read_results(plan)
            _record(plan, parent, results)
            end = "FINISHED"
        except FoldFailedError as error:
            parent.set_tags({"error": str(error)})
            end = "FAILED"
            raise
        finally:
            parent.end(end)
        _write_state(plan, state.model_copy(update={"is_recorded": True}))
        return results


def _read_state(plan: FoldsPlan) -> State | None:
    """Return the state of an earlier command, or None if there was no earlier command.

    Raises:
        ParameterError: if the earlier folds are not comparable with the folds in this plan.
    """
    path = plan.folder / _STATE
    if not path.is_file():
        return None
    state, here = State.model_validate_json(path.read_bytes()), plan.describe()
    differences = [
        f"  {name}: {state.definition.get(name)} in the earlier folds, {here.get(name)} now"
        for name in sorted({*here, *state.definition})
        if here.get(name) != state.definition.get(name)
    ]
    if differences:
        more = len(differences) - _MOST_DIFFERENCES
        shown = [*differences[:_MOST_DIFFERENCES], *([f"  and {more} more"] if more > 0 else [])]
        problem = f"{plan.folder}: the folds there are not comparable with new folds:"
        raise ParameterError(
            "\n".join([problem, *shown, "→ restore the values, or move the folder elsewhere to start from scratch"])
        )
    return state


def _write_state(plan: FoldsPlan, state: State) -> None:
    write_text(plan.folder / _STATE, state.model_dump_json(indent=2) + "\n")


def _read_results(plan: FoldsPlan) -> list[FoldResult]:
    found = (read_result(plan.fold_folder(number)) for number in range(1, len(plan.lists) + 1))
    return [result for result in found if result is not None]


def _run_fold(plan: FoldsPlan, parent: TrackedRun, number: int) -> None:
    """Run a fold and save its result.

    Raises:
        FoldFailedError: if the run failed.
    """
    folder, grace_seconds = plan.fold_folder(number), plan.training.launch.stop_grace_seconds
    folder.mkdir(exist_ok=True)
    wait_for_orphan(folder, grace_seconds)
    log = folder / "fold.log"
    logger.info("fold %d of %d; log: %s", number, len(plan.lists), log)
    started = time.monotonic()
    exit_code = run_kedro(
        plan.write_run_file(number),
        log,
        child_environment(parent, "folds", "folds", f"fold {number}", {"folds.fold": str(number)}),
        plan.project_path,
        grace_seconds=grace_seconds,
    )
    if exit_code:
        raise FoldFailedError(
            f"fold {number} failed: the run {describe_end(log, exit_code)}\n"
            "→ fix the cause, then run the command again to continue with this fold"
        )
    result = save_result(folder, number, time.monotonic() - started)
    parent.log_metrics({f"folds/{name}": getattr(result, name) for name in METRICS}, step=number)
    logger.info("fold %d of %d: top-1 %.4f, loss %.4f", number, len(plan.lists), result.top1, result.loss)


def _record(plan: FoldsPlan, parent: TrackedRun, results: list[FoldResult]) -> None:
    """Add the mean and the standard deviation of each metric, the tables of the folds and a description to MLflow."""
    for name, summary in summarize(results).items():
        values = {f"folds/{name}_mean": summary.mean}
        if summary.std is not None:
            values[f"folds/{name}_std"] = summary.std
        parent.log_metrics(values)
    parent.set_tags({"folds.count": str(len(results))})
    table = plan.folder / "folds.csv"
    write_table(table, results)
    folders = [plan.fold_folder(result.fold) for result in results]
    tables = (table, *write_out_of_fold_predictions(plan.folder, folders))
    for path in tables:
        parent.log_artifact(path, "folds")
    top1 = summarize(results)["top1"]
    spread = "" if top1.std is None else f" ± {top1.std:.2%}"
    describe_parent(
        parent,
        f"top-1 {top1.mean:.2%}{spread} (mean and standard deviation of {pluralize(top1.n, 'fold')})",
        ["fold", "images", "top-1", "balanced accuracy", "loss"],
        [
            ChildRow(
                f"fold {one.fold}",
                [f"{one.images:,}", f"{one.top1:.2%}", f"{one.balanced_accuracy:.2%}", f"{one.loss:.4f}"],
                plan.fold_folder(one.fold),
            )
            for one in results
        ],
        {path.name: f"folds/{path.name}" for path in tables if path.suffix == ".csv"},
    )
