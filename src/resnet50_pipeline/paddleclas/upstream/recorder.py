"""Writes `events.jsonl` from PaddleClas' log during training, as rank 0 does with the native engine."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from resnet50_pipeline.events import AnyEvent, CheckpointSaved, EpochEnd, EvalEnd, EventWriter
from resnet50_pipeline.paddleclas.upstream.checkpoints import BestWeights, epoch_of_stem
from resnet50_pipeline.paddleclas.upstream.events import EventBuilder
from resnet50_pipeline.paddleclas.upstream.log import LogEntry, ModelSaved, read_log_line
from resnet50_pipeline.tailing import Tail
from resnet50_pipeline.training_dir import events_path, heartbeat_path


class LogTail:
    """Reads new lines from rank 0's log, and updates the heartbeats of all ranks when there are new lines.

    Upstream's ranks write no heartbeats, and only rank 0 logs its progress. The ranks synchronize at every step, so a
    new line shows that all ranks are alive.
    """

    def __init__(self, log: Path, training_dir: Path, ranks: int) -> None:
        self._tail, self._training_dir, self._ranks = Tail(log), training_dir, ranks

    def lines(self) -> list[str]:
        """Return the complete lines added since the last call."""
        lines = b"".join(self._tail.read_lines())
        if lines:
            for rank in range(self._ranks):
                heartbeat_path(self._training_dir, rank).touch()
        return lines.decode("utf-8", errors="replace").splitlines()


class EventRecorder:
    """Converts new lines in rank 0's log to events and writes them to `events.jsonl`."""

    def __init__(self, tail: LogTail, training_dir: Path, builder: EventBuilder, best: BestWeights) -> None:
        self._tail, self._training_dir, self._builder, self._best = tail, training_dir, builder, best
        self._writer = EventWriter(events_path(training_dir))
        self._epoch_ended = time.monotonic()
        self._step = 0

    def record(self) -> list[AnyEvent]:
        """Write and return the events from new log lines.

        Raises:
            NonFiniteLossError: if the loss is NaN or infinite.
        """
        return [self._written(event) for line in self._tail.lines() for event in self._events(read_log_line(line))]

    def finish(self) -> list[AnyEvent]:
        """Write and return the final events, after the processes have ended successfully.

        Raises:
            RankFailedError: if the processes ended before the last epoch.
            CheckpointError: if the weights of the best epoch are missing.
        """
        events = self.record()
        last = self._builder.finish()
        if path := self._best.collect_remaining(self._builder.paddle_version):
            last.insert(-1, self._saved(path, self._builder.best_epoch, is_best=True))
        return events + [self._written(event) for event in last]

    def close(self) -> None:
        """Close the event file."""
        self._writer.close()

    def _events(self, entry: LogEntry) -> Iterator[AnyEvent]:
        for event in self._builder.add(entry):
            if isinstance(event, EpochEnd):
                self._epoch_ended, self._step = time.monotonic(), event.step
            if isinstance(event, EvalEnd) and event.is_best:
                self._best.expect(event.epoch, event.top1)
            yield event
        if isinstance(entry, ModelSaved):
            stem = Path(entry.stem)
            if epoch := epoch_of_stem(entry.stem):
                yield self._saved(stem.with_name(f"{stem.name}.pdparams"), epoch, is_best=False)
            if path := self._best.collect(stem, self._builder.paddle_version):
                yield self._saved(path, self._builder.best_epoch, is_best=True)

    def _saved(self, path: Path, epoch: int, *, is_best: bool) -> CheckpointSaved:
        seconds = time.monotonic() - self._epoch_ended
        folder = self._training_dir.absolute()
        place = path.absolute()
        return CheckpointSaved(
            epoch=epoch,
            step=self._step,
            path=str(place.relative_to(folder) if place.is_relative_to(folder) else place),
            seconds=seconds,
            is_best=is_best,
        )

    def _written(self, event: AnyEvent) -> AnyEvent:
        self._writer.write(event)
        return event
