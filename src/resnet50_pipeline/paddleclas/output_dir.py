"""The folder of a training run: one run at a time, and an unfinished run is never thrown away."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from resnet50_pipeline.events import Finished, last_event
from resnet50_pipeline.exceptions import OutputDirectoryInUseError, ParameterError
from resnet50_pipeline.paddleclas.upstream_checkpoints import saved_stems
from resnet50_pipeline.parameters import TrainingParameters
from resnet50_pipeline.training_dir import checkpoint_paths, config_path, events_path

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def claim_output_dir(output_dir: Path) -> Iterator[None]:
    """Hold the folder for this process; the claim ends with the block, and with the process however it ends.

    Raises:
        OutputDirectoryInUseError: another living process holds it; names its PID.
    """
    output_dir.parent.mkdir(parents=True, exist_ok=True)
    with _lock_path(output_dir).open("a+", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            raise OutputDirectoryInUseError(
                f"{output_dir}: process {lock.read().strip() or '(unknown)'} is at work there; wait for it, "
                f"or give this run a folder of its own"
            ) from error
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def goes_on(training: TrainingParameters) -> bool:
    """Return whether a training starts from the newest checkpoint set of `output_dir` rather than anew."""
    if training.resume != "auto":
        return training.resume
    return holds_checkpoints(training.output_dir) and not _is_finished(training.output_dir)


def holds_checkpoints(output_dir: Path) -> bool:
    """Whether a run of either engine has left something there that a training could go on from."""
    return bool(checkpoint_paths(output_dir) or saved_stems(output_dir))


def find_holder(output_dir: Path) -> str | None:
    """Return the PID of the process that holds the folder, None where nobody does; claims and writes nothing."""
    try:
        with _lock_path(output_dir).open("r", encoding="utf-8") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return lock.read().strip() or "(unknown)"
    except FileNotFoundError:
        return None
    return None


@contextlib.contextmanager
def starting_anew(output_dir: Path) -> Iterator[None]:
    """Make room for a run from the start, and lose nothing by it.

    An unfinished run with checkpoint sets moves to `<name>.unfinished-1` (or -2, …) and stays. A finished one moves
    to `<name>.replaced`, comes back where the block raises before the new run has a checkpoint set, and is deleted when
    the block ends well. The new one then moves to `<name>.failed`, for its logs are there, until one ends well.

    Raises:
        ParameterError: the folder holds something, and that is no training.
    """
    replaced = _replaced(output_dir)
    _move_aside(output_dir, replaced)
    try:
        yield
    except BaseException:
        if replaced.exists() and not holds_checkpoints(output_dir):
            failed = _failed(output_dir)
            shutil.rmtree(failed, ignore_errors=True)
            if output_dir.exists():
                output_dir.replace(failed)
            replaced.replace(output_dir)
            logger.warning(
                "the new training has no checkpoint set: it stands in %s now, with the logs that are named below; the "
                "finished one is back in %s",
                failed,
                output_dir,
            )
        raise
    forget_replaced_run(output_dir)


def forget_replaced_run(output_dir: Path) -> None:
    """Delete the finished run that the one in `output_dir`, finished too by now, has replaced, and what failed to."""
    for path in (_replaced(output_dir), _failed(output_dir)):
        shutil.rmtree(path, ignore_errors=True)


def _lock_path(output_dir: Path) -> Path:
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
            f"training.output_dir is {output_dir}, which holds files but no training ({config_path(output_dir).name} "
            f"is not there), and a new training would replace them; name a folder of its own, or empty this one"
        )
    if _is_finished(output_dir):
        shutil.rmtree(replaced, ignore_errors=True)
        output_dir.replace(replaced)
    elif holds_checkpoints(output_dir):
        names = (f"{output_dir.name}.unfinished-{number}" for number in itertools.count(1))
        aside = next(path for name in names if not (path := output_dir.with_name(name)).exists())
        output_dir.replace(aside)
        logger.warning(
            "%s held an unfinished run; it stands in %s now. To go on from it instead: move it back and "
            "set training.resume=true",
            output_dir,
            aside,
        )
    else:
        shutil.rmtree(output_dir)


def _is_finished(output_dir: Path) -> bool:
    return isinstance(last_event(events_path(output_dir)), Finished)
