"""Runs `kedro run` in a separate process, and stops it on request or when the caller exits."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from resnet50_pipeline.exceptions import OutputDirectoryInUseError
from resnet50_pipeline.paddleclas.launch.output_dir import find_holder
from resnet50_pipeline.processes import parent_death
from resnet50_pipeline.processes.interruption import raise_if_interrupted

logger = logging.getLogger(__name__)

_POLL_SECONDS = 0.5
# Time for Kedro to upload results to MLflow and exit after the ranks have stopped.
_END_SECONDS = 60.0
_TAIL_LINES = 15


def run_kedro(
    run_file: Path,
    log: Path,
    environment: Mapping[str, str],
    project_path: Path,
    *,
    should_continue: Callable[[], bool] = lambda: True,
    grace_seconds: float = 0.0,
) -> int | None:
    """Run `kedro run --config` and return its exit code. Return None if `should_continue` stopped it.

    Args:
        run_file: file passed to `--config`.
        log: file to append the output to.
        environment: variables for the run, in addition to this process's environment.
        project_path: folder of the project.
        should_continue: called regularly, and once more after the run has ended. The run is stopped if this function
            returns False.
        grace_seconds: time that the ranks of the run need to stop.

    Raises:
        RunInterruptedError: if this process receives a signal. The run is stopped first.
    """
    with log.open("ab") as file:
        process = subprocess.Popen(
            [
                # If this process is killed, the run gets SIGTERM and saves a checkpoint set.
                *(sys.executable, "-I", "-S", parent_death.__file__, str(os.getpid())),
                *(sys.executable, "-m", "kedro", "run", "--config", str(run_file)),
            ],
            cwd=project_path,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            # A separate session shields the run from Ctrl-C in the terminal. Only this process may signal the run,
            # because a second signal would end it before it has saved a checkpoint set.
            start_new_session=True,
        )
    try:
        while (exit_code := process.poll()) is None:
            if not should_continue():
                return None
            raise_if_interrupted()
            time.sleep(_POLL_SECONDS)
        should_continue()
        return exit_code
    finally:
        _stop(process, log, grace_seconds)


def describe_end(log: Path, exit_code: int) -> str:
    """Describe how a run ended, including its error message or the last lines of its log."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    errors = [number for number, line in enumerate(lines) if line.startswith("error: ")]
    end = f"was ended by {signal.Signals(-exit_code).name}" if exit_code < 0 else f"ended with code {exit_code}"
    shown = lines[errors[-1] :] if errors else lines
    return "\n".join([f"{end}; last lines of {log}:", *shown[-_TAIL_LINES:]])


def wait_for_orphan(folder: Path, grace_seconds: float) -> None:
    """Wait until a run whose parent process was killed has saved a checkpoint set and ended.

    Args:
        folder: folder of the run.
        grace_seconds: time that the ranks of the run need to stop.

    Raises:
        OutputDirectoryInUseError: if the run does not end in time.
    """
    deadline = time.monotonic() + grace_seconds + _END_SECONDS
    while (holder := find_holder(folder)) is not None:
        if time.monotonic() > deadline:
            raise OutputDirectoryInUseError(
                f"{folder}: process {holder} of an earlier command is still running → kill {holder}"
            )
        raise_if_interrupted()
        time.sleep(_POLL_SECONDS)


def _stop(process: subprocess.Popen[bytes], log: Path, grace_seconds: float) -> None:
    """Stop the run with SIGTERM, and kill the run only after it has had time to save a checkpoint set."""
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(grace_seconds + _END_SECONDS)
    except BaseException as error:
        process.kill()
        process.wait()
        if not isinstance(error, subprocess.TimeoutExpired):
            raise
        logger.warning("killed process %d, which did not stop in time; log: %s", process.pid, log)
