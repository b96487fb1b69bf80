"""Manages the output folder for training runs. Only one run can use it at a time. Unfinished runs are kept."""

from __future__ import annotations

import contextlib
import itertools
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from resnet50_pipeline.events import Finished, last_event
from resnet50_pipeline.exceptions import OutputDirectoryInUseError, ParameterError
from resnet50_pipeline.processes import locks
from resnet50_pipeline.training_dir import checkpoint_paths, config_path, events_path, log_dir, upstream_stems

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def claim_output_dir(output_dir: Path) -> Iterator[None]:
    """Lock the folder for this process until the block or the process ends.

    Raises:
        OutputDirectoryInUseError: if another process holds the lock. The message contains the PID of that process.
        ParameterError: if the folder is the current folder, because its lock file would be outside the project.
    """
    output_dir.parent.mkdir(parents=True, exist_ok=True)
    with locks.claiming(_lock_path(output_dir)) as holder:
        if holder is not None:
            raise OutputDirectoryInUseError(
                f"{output_dir} is in use by process {holder}; wait until that process ends, or choose another folder"
            )
        yield


def should_resume(output_dir: Path, resume: bool | Literal["auto"]) -> bool:
    """Return whether a run with this value of `training.resume` continues from the newest checkpoint set."""
    if resume != "auto":
        return resume
    return has_checkpoints(output_dir) and not _is_finished(output_dir)


def has_checkpoints(output_dir: Path) -> bool:
    """Return whether the folder contains a checkpoint from either engine that a run could resume from."""
    return bool(checkpoint_paths(output_dir) or upstream_stems(output_dir))


def find_holder(output_dir: Path) -> str | None:
    """Return the PID of the process that holds the folder's lock, or None if the lock is free. No file is written."""
    return locks.find_holder(_lock_path(output_dir))


@contextlib.contextmanager
def replacing_previous_run(output_dir: Path) -> Iterator[None]:
    """Move the previous run aside before the block starts a new run, and restore it if the new run fails early.

    - An unfinished run with checkpoints is moved to `<name>.unfinished-1` (or -2, …) and kept.
    - A finished run is moved to `<name>.replaced` and deleted after the block succeeds. If the block raises before the
      new run has a checkpoint, the finished run is moved back. The new run and its logs are then moved to
      `<name>.failed` and kept until a later run succeeds.

    Raises:
        ParameterError: if the folder contains files but no training run.
    """
    replaced = _replaced(output_dir)
    _move_aside(output_dir, replaced)
    try:
        yield
    except BaseException as error:
        if replaced.exists() and not has_checkpoints(output_dir):
            failed = _failed(output_dir)
            shutil.rmtree(failed, ignore_errors=True)
            if output_dir.exists():
                output_dir.replace(failed)
            replaced.replace(output_dir)
            _rename_logs(error, log_dir(output_dir), log_dir(failed))
            logger.warning(
                "the new run ended without a checkpoint. It was moved to %s with its logs, and the previous finished "
                "run was moved back to %s",
                failed,
                output_dir,
            )
        raise
    delete_replaced_runs(output_dir)


def delete_replaced_runs(output_dir: Path) -> None:
    """Delete `<name>.replaced` and `<name>.failed`, if they exist.

    Call this only after the run in `output_dir` has finished.
    """
    for path in (_replaced(output_dir), _failed(output_dir)):
        shutil.rmtree(path, ignore_errors=True)


def _rename_logs(error: BaseException, old: Path, new: Path) -> None:
    """Update the paths of moved logs in an error's message. The old paths now lead to another run's logs."""
    error.args = tuple(part.replace(f"{old}/", f"{new}/") if isinstance(part, str) else part for part in error.args)


def _lock_path(output_dir: Path) -> Path:
    if not output_dir.name:
        raise ParameterError(
            f"the results of a run cannot be written to '{output_dir}', because the lock file is written next to the "
            "folder → choose a folder in the project, such as data/trial"
        )
    return output_dir.with_name(f".{output_dir.name}.lock")


def _replaced(output_dir: Path) -> Path:
    return output_dir.with_name(f"{output_dir.name}.replaced")


def _failed(output_dir: Path) -> Path:
    return output_dir.with_name(f"{output_dir.name}.failed")


def _move_aside(output_dir: Path, replaced: Path) -> None:
    if not output_dir.exists():
        return
    if any(output_dir.iterdir()) and not config_path(output_dir).exists():
        raise ParameterError(
            f"{output_dir} is the training folder, but contains files that are not from a training run "
            f"({config_path(output_dir).name} is missing), and a new run would replace them → choose another folder: "
            f"set workspace in conf/<environment>/globals.yml, or pass --params run_dir=FOLDER"
        )
    if _is_finished(output_dir):
        shutil.rmtree(replaced, ignore_errors=True)
        output_dir.replace(replaced)
    elif has_checkpoints(output_dir):
        names = (f"{output_dir.name}.unfinished-{number}" for number in itertools.count(1))
        aside = next(path for name in names if not (path := output_dir.with_name(name)).exists())
        output_dir.replace(aside)
        logger.warning(
            "%s contained an unfinished run, which was moved to %s. To resume that run, move the folder back and set "
            "training.resume=true",
            output_dir,
            aside,
        )
    else:
        shutil.rmtree(output_dir)


def _is_finished(output_dir: Path) -> bool:
    return isinstance(last_event(events_path(output_dir)), Finished)
