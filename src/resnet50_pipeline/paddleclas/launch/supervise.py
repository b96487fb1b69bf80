"""Runs the ranks, watches the launcher and the heartbeats, and ends all processes afterward."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from resnet50_pipeline.events import AnyEvent, Started, parse_event
from resnet50_pipeline.exceptions import RankFailedError, RunInterruptedError
from resnet50_pipeline.paddleclas.launch.command import LaunchCommand
from resnet50_pipeline.paddleclas.launch.failure import (
    count_oom_kills,
    describe_exit,
    describe_failure,
    reported_error,
    tail,
)
from resnet50_pipeline.paddleclas.launch.heartbeats import HeartbeatWatch
from resnet50_pipeline.paddleclas.launch.processes import Processes, started
from resnet50_pipeline.processes.awake_clock import AwakeClock
from resnet50_pipeline.processes.interruption import raise_if_interrupted
from resnet50_pipeline.tailing import Tail
from resnet50_pipeline.text import pluralize
from resnet50_pipeline.training_dir import events_path, heartbeat_paths

logger = logging.getLogger(__name__)

_POLL_SECONDS = 0.25
_STACK_LINES = 40


def run_ranks(
    command: LaunchCommand,
    output_dir: Path,
    log_dir: Path,
    hang_timeout_seconds: float,
    *,
    ranks: int,
    own_ranks: range | None = None,
    watches_all: bool = True,
    stop_grace_seconds: float = 0.0,
    log_stays: bool = True,
    on_event: Callable[[AnyEvent], None] = lambda _event: None,
    check: Callable[[], None] = lambda: None,
) -> None:
    """Run the ranks until they have ended, and pass every new event in `output_dir/events.jsonl` to `on_event`.

    If a rank fails or hangs, if an exception is raised, or if you press Ctrl-C, the function ends every process that it
    started. After the first signal to this process, the ranks have `stop_grace_seconds` to finish their step and save a
    checkpoint set. A second signal kills them.

    Args:
        command: command that starts the ranks of this machine.
        output_dir: folder with the events and every rank's heartbeat.
        log_dir: folder for the logs of this machine's ranks.
        hang_timeout_seconds: time without a heartbeat after which a rank is considered hung.
        ranks: total number of ranks across all machines. In elastic mode, the `started` event updates this number.
        own_ranks: ranks of this machine. Defaults to all ranks.
        watches_all: whether to watch the heartbeats of all machines, after deleting heartbeats from earlier runs.
        stop_grace_seconds: time between SIGTERM and SIGKILL if this process is asked to stop.
        log_stays: whether the logs are kept after the run. If not, errors do not mention them.
        on_event: called with every event.
        check: called at every poll. If this function raises an exception, the ranks are ended and the exception
            propagates.

    Raises:
        RankFailedError: if a rank or the launcher failed or hung. The message names the process, describes the failure,
            and includes the last lines of the log.
        PipelineError: if a rank reported an error. The exception has the class of that error.
    """
    log_dir.mkdir(parents=True, exist_ok=True)
    launcher_log = log_dir / "launcher.log"
    events = _EventReader(events_path(output_dir), on_event, ranks)
    watch = HeartbeatWatch(output_dir, hang_timeout_seconds, AwakeClock())
    for stale in (*log_dir.glob("workerlog.*"), *(heartbeat_paths(output_dir) if watches_all else ())):
        stale.unlink(missing_ok=True)
    oom_kills_before = count_oom_kills()
    with launcher_log.open("wb") as log, started(command, log.fileno()) as processes:
        try:
            while True:
                exit_code = processes.poll()
                if not events.dispatch() and exit_code is not None:
                    break
                # With Kedro's ThreadRunner, the main thread receives the signal and waits for this thread.
                raise_if_interrupted()
                here = ranks if own_ranks is None else len(own_ranks)
                processes.watch(here)
                # Once a rank on this machine has failed, ignore other machines' reports: the launcher is about to end.
                if processes.first_end is None:
                    try:
                        check()
                    except RankFailedError:
                        if not processes.caused_the_failure(here):
                            raise
                silent = watch.silent_ranks(range(events.ranks) if watches_all or own_ranks is None else own_ranks)
                if silent and exit_code is None:
                    raise _hanging(silent, processes, log_dir, hang_timeout_seconds)
                if exit_code is None:
                    processes.wait(_POLL_SECONDS)
        except (RunInterruptedError, KeyboardInterrupt):
            _stop(processes, stop_grace_seconds)
            events.dispatch()
            raise
    if exit_code != 0:
        oom_kills = count_oom_kills()
        raise describe_failure(
            exit_code,
            log_dir,
            processes.first_end,
            ranks=processes.ranks_by_local_rank,
            oom_kills=None if oom_kills is None or oom_kills_before is None else oom_kills - oom_kills_before,
            log_stays=log_stays,
        )


def run_program(command: list[str], environment: dict[str, str], log_path: Path, timeout_seconds: float) -> None:
    """Run a single process without Paddle's launcher, for example to export a model.

    The process's output is written to `log_path`, which is a temporary file.

    Raises:
        RankFailedError: if the process failed, or took longer than the timeout.
        PipelineError: if the process reported an error. The exception has the class of that error.
    """
    with (
        log_path.open("wb") as log,
        started(LaunchCommand(tuple(command), environment), log.fileno()) as process,
    ):
        clock = AwakeClock()
        while (exit_code := process.poll()) is None:
            raise_if_interrupted()
            if clock() > timeout_seconds:
                raise RankFailedError(
                    f"{Path(command[-1]).name} did not end within {timeout_seconds:g} s "
                    f"(training.launch.hang_timeout_seconds) and was killed; last lines of its log:\n{tail(log_path)}"
                )
            time.sleep(_POLL_SECONDS)
    if exit_code != 0:
        raise reported_error(log_path, log_stays=False) or RankFailedError(
            f"{' '.join(command[-1:])} ended with {describe_exit(exit_code)}; last lines of its log:\n{tail(log_path)}"
        )


class _EventReader:
    """Passes new events from the event file to a callback, and tracks the number of ranks.

    On machines other than machine 0, the existing file may be from the previous run. When machine 0 replaces the file,
    the new file is read from the beginning.
    """

    def __init__(self, path: Path, on_event: Callable[[AnyEvent], None], ranks: int) -> None:
        self._tail, self._on_event = Tail(path, skip_existing=True), on_event
        self.ranks = ranks

    def dispatch(self) -> int:
        """Call `on_event` with each new event, and return the number of events."""
        events = [parse_event(line) for line in self._tail.read_lines()]
        for event in events:
            if isinstance(event, Started):
                self.ranks = event.ranks
            self._on_event(event)
        return len(events)


def _stop(processes: Processes, grace_seconds: float) -> None:
    """Ask the ranks to stop. Wait until all ranks have ended, the grace period is over, or a second signal arrives.

    The caller must end the remaining ranks.
    """
    if grace_seconds <= 0:
        return
    logger.warning(
        "stopping: the ranks have %g s (training.launch.stop_grace_seconds) to finish their step and save; a second "
        "signal kills them immediately",
        grace_seconds,
    )
    try:
        if not processes.request_stop(grace_seconds):
            logger.warning("the ranks did not end within %g s; killing them", grace_seconds)
    except KeyboardInterrupt:
        logger.warning("killing the ranks")


def _hanging(silent: dict[int, float], processes: Processes, log_dir: Path, timeout_seconds: float) -> RankFailedError:
    """Return the error that names the hung rank and shows its stack."""
    if not processes.ranks_were_seen:
        launcher_log = log_dir / "launcher.log"
        return RankFailedError(
            f"no rank started within {timeout_seconds:g} s (training.launch.hang_timeout_seconds). With several "
            "machines, check that the command is running on each machine with the same training.launch.master, "
            f"and that each machine can reach this address. Last lines of {launcher_log}:\n{tail(launcher_log)}"
        )
    stopped = [rank for rank in processes.ranks_in_state(psutil.STATUS_STOPPED) if rank in silent]
    rank = (stopped or list(silent))[0]
    processes.request_stacks()
    others = f"; {pluralize(len(silent) - 1, 'other rank')} may be waiting for it" if len(silent) > 1 else ""
    why = " (the process is stopped, perhaps by SIGSTOP)" if rank in stopped else ""
    local_rank = processes.local_rank(rank)
    where = "the rank runs on another machine; see the log there"
    if local_rank is not None:
        log = log_dir / f"workerlog.{local_rank}"
        where = f"its log: {log}\n{tail(log, _STACK_LINES)}"
    return RankFailedError(
        f"rank {rank} hangs{why}: no step for {silent[rank]:.0f} s (training.launch.hang_timeout_seconds is "
        f"{timeout_seconds:g}){others}; all ranks were killed; {where}",
        is_transient=True,
    )
