"""The folder of a training run: one run at a time, and an unfinished run is never thrown away."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from resnet50_pipeline.events import Finished, read_events
from resnet50_pipeline.exceptions import OutputDirectoryInUseError, ParameterError
from resnet50_pipeline.training_dir import checkpoint_paths, config_path, events_path

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def claim_output_dir(output_dir: Path) -> Iterator[None]:
    """Hold the folder for this process; the claim ends with the block, and with the process however it ends.

    Raises:
        OutputDirectoryInUseError: another living process holds it; names its PID.
    """
    output_dir.parent.mkdir(parents=True, exist_ok=True)
    path = output_dir.with_name(f".{output_dir.name}.lock")
    with path.open("a+", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            raise OutputDirectoryInUseError(
                f"{output_dir}: process {lock.read().strip() or '(unknown)'} is training there; wait for it, "
                f"or give this run another training.output_dir"
            ) from error
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def start_output_dir_anew(output_dir: Path) -> None:
    """Make room for a run from the start: a finished run goes, an unfinished one with checkpoints is set aside.

    Raises:
        ParameterError: the folder holds something, and that is no training.
    """
    if not output_dir.exists():
        return
    if any(output_dir.iterdir()) and not config_path(output_dir).exists():
        raise ParameterError(
            f"training.output_dir is {output_dir}, which holds files but no training ({config_path(output_dir).name} "
            f"is not there), and a new training would delete them; name a folder of its own, or empty this one"
        )
    events, _ = read_events(events_path(output_dir))
    if checkpoint_paths(output_dir) and not any(isinstance(event, Finished) for event in events):
        aside = output_dir.with_name(f"{output_dir.name}.unfinished")
        shutil.rmtree(aside, ignore_errors=True)
        output_dir.replace(aside)
        logger.warning(
            "%s held an unfinished run; it stands in %s now. To go on from it instead: move it back and "
            "set training.resume=true",
            output_dir,
            aside,
        )
    else:
        shutil.rmtree(output_dir)
