"""Runs ranks to their end: watches the launcher and the heartbeats, and leaves no process behind."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from resnet50_pipeline.events import AnyEvent, Started, read_events
from resnet50_pipeline.exceptions import RankFailedError, RunInterruptedError
from resnet50_pipeline.interruption import raise_if_interrupted
from resnet50_pipeline.paddleclas.failure import (
    count_oom_kills,
    describe_exit,
    describe_failure,
    reported_error,
    tail,
)
from resnet50_pipeline.paddleclas.heartbeats import HeartbeatWatch
from resnet50_pipeline.paddleclas.launch import LaunchCommand
from resnet50_pipeline.paddleclas.processes import Processes, started
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
    """Start the ranks, hand every new event of `output_dir/events.jsonl` to `on_event`, and return when all are done.

    Whatever ends this call (a failed or hanging rank, an exception, Ctrl-C) also ends every process it started. A
    signal to this process gives the ranks `stop_grace_seconds` to finish their step and to save; a second one does not.

    Args:
        command: starts the ranks of this machine.
        output_dir: of the events and of the heartbeats of all ranks.
        log_dir: of the logs of this machine's ranks.
        hang_timeout_seconds: a rank that is silent for longer hangs.
        ranks: how many there are on all machines; an event of the ranks themselves corrects it (elastic mode).
        own_ranks: those of this machine; all of them unless given.
        watches_all: look at the heartbeats of the other machines' ranks too, and clear those of earlier runs away.
        stop_grace_seconds: from SIGTERM to SIGKILL where this process is asked to stop.
        log_stays: whether the logs are there afterwards; errors name them then.
        on_event: called with every event.
        check: called at every look; what it raises ends the ranks and this call.

    Raises:
        RankFailedError: a rank or the launcher ended badly or hung; says which, how, and the end of its log.
        PipelineError: the error that a rank itself reported, by its own class.
    """
    log_dir.mkdir(parents=True, exist_ok=True)
    launcher_log = log_dir / "launcher.log"
    events = _EventTail(events_path(output_dir), on_event, ranks)
    watch = HeartbeatWatch(output_dir, hang_timeout_seconds)
    for stale in (*log_dir.glob("workerlog.*"), *(heartbeat_paths(output_dir) if watches_all else ())):
        stale.unlink(missing_ok=True)
    oom_kills_before = count_oom_kills()
    with launcher_log.open("wb") as log, started(command, log.fileno()) as processes:
        try:
            while True:
                exit_code = processes.poll()
                if not events.hand_on() and exit_code is not None:
                    break
                # A runner in threads leaves the signal to the main thread, which waits for this one.
                raise_if_interrupted()
                here = ranks if own_ranks is None else len(own_ranks)
                processes.watch(here)
                if processes.first_end is None:  # otherwise the launcher is about to end, and the cause is here
                    try:
                        check()
                    except RankFailedError:
                        if not processes.turn_out_to_be_the_cause(here):
                            raise
                silent = watch.silent_ranks(range(events.ranks) if watches_all or own_ranks is None else own_ranks)
                if silent and exit_code is None:
                    raise _hanging(silent, processes, log_dir, hang_timeout_seconds)
                if exit_code is None:
                    time.sleep(_POLL_SECONDS)
        except (RunInterruptedError, KeyboardInterrupt):
            _stop(processes, stop_grace_seconds)
            events.hand_on()
            raise
    if exit_code != 0:
        oom_kills = count_oom_kills()
        raise describe_failure(
            exit_code,
            log_dir,
            processes.first_end,
            ranks=processes.ranks_by_place,
            oom_kills=None if oom_kills is None or oom_kills_before is None else oom_kills - oom_kills_before,
            log_stays=log_stays,
        )


def run_program(command: list[str], environment: dict[str, str], log_path: Path, timeout_seconds: float) -> None:
    """Run one process without a launcher, as the export; its output goes to `log_path`, which does not stay.

    Raises:
        RankFailedError, PipelineError: as `run_ranks`; the former also where it takes longer than the timeout.
    """
    with (
        log_path.open("wb") as log,
        started(LaunchCommand(tuple(command), environment), log.fileno()) as process,
    ):
        deadline = time.monotonic() + timeout_seconds
        while (exit_code := process.poll()) is None:
            raise_if_interrupted()
            if time.monotonic() > deadline:
                raise RankFailedError(
                    f"{Path(command[-1]).name} did not end within {timeout_seconds:g} s "
                    f"(training.launch.hang_timeout_seconds) and was ended; the end of its log:\n{tail(log_path)}"
                )
            time.sleep(_POLL_SECONDS)
    if exit_code != 0:
        raise reported_error(log_path, log_stays=False) or RankFailedError(
            f"{' '.join(command[-1:])} ended with {describe_exit(exit_code)}; the end of its log:\n{tail(log_path)}"
        )


class _EventTail:
    """Hands on what is appended to the event file from now on, and remembers how many ranks it speaks of."""

    def __init__(self, path: Path, on_event: Callable[[AnyEvent], None], ranks: int) -> None:
        self._path, self._on_event = path, on_event
        self._position = path.stat().st_size if path.exists() else 0
        self.ranks = ranks

    def hand_on(self) -> int:
        """Call `on_event` with each new event and return their number."""
        events, self._position = read_events(self._path, self._position)
        for event in events:
            if isinstance(event, Started):
                self.ranks = event.ranks
            self._on_event(event)
        return len(events)


def _stop(processes: Processes, grace_seconds: float) -> None:
    """Let the ranks end in order while time and the user's patience last; the caller ends what is left."""
    if grace_seconds <= 0:
        return
    logger.warning(
        "stopping: the ranks finish their step and save, which may take up to %g s "
        "(training.launch.stop_grace_seconds); a second signal ends them at once",
        grace_seconds,
    )
    try:
        if not processes.ask_to_stop(grace_seconds):
            logger.warning("the ranks did not end within %g s and are killed", grace_seconds)
    except KeyboardInterrupt:
        logger.warning("the ranks are killed")


def _hanging(silent: dict[int, float], processes: Processes, log_dir: Path, timeout_seconds: float) -> RankFailedError:
    """Return the error that names the rank for which the others wait, and shows where it is."""
    if not processes.ranks_were_seen:
        launcher_log = log_dir / "launcher.log"
        return RankFailedError(
            f"no rank was started within {timeout_seconds:g} s (training.launch.hang_timeout_seconds); with more than "
            f"one machine: does each run its command, with the same training.launch.master, and does it reach that "
            f"address? The end of {launcher_log}:\n{tail(launcher_log)}"
        )
    stopped = [rank for rank in processes.ranks_in_state(psutil.STATUS_STOPPED) if rank in silent]
    rank = (stopped or list(silent))[0]
    processes.ask_for_stacks()
    others = f"; so do {len(silent) - 1} others, which may be waiting for it" if len(silent) > 1 else ""
    why = " (it is stopped, as by SIGSTOP)" if rank in stopped else ""
    local_rank = processes.local_rank(rank)
    where = "it runs on another machine; see the log there"
    if local_rank is not None:
        log = log_dir / f"workerlog.{local_rank}"
        where = f"its log: {log}\n{tail(log, _STACK_LINES)}"
    return RankFailedError(
        f"rank {rank} hangs{why}: no step for {silent[rank]:.0f} s (training.launch.hang_timeout_seconds is "
        f"{timeout_seconds:g}){others}; all ranks were ended; {where}"
    )
