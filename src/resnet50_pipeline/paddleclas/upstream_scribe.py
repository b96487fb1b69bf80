"""Writes `events.jsonl` while PaddleClas trains, from its log, in place of the rank 0 that would write it itself."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from resnet50_pipeline.events import AnyEvent, CheckpointSaved, EpochEnd, EvalEnd, EventWriter
from resnet50_pipeline.paddleclas.upstream_checkpoints import BestWeights, epoch_of_stem
from resnet50_pipeline.paddleclas.upstream_events import EventBuilder
from resnet50_pipeline.paddleclas.upstream_log import LogEntry, ModelSaved, read_log_line
from resnet50_pipeline.training_dir import events_path, heartbeat_path


class LogTail:
    """The whole lines that are appended to a log, and a heartbeat for every rank whenever there are some.

    Upstream's ranks write no heartbeats, and only rank 0 writes a log while all is well: as they meet at every step,
    its lines are the sign of life of all.
    """

    def __init__(self, log: Path, training_dir: Path, ranks: int) -> None:
        self._log, self._training_dir, self._ranks = log, training_dir, ranks
        self._position = 0

    def lines(self) -> list[str]:
        """Return the lines since the last call."""
        try:
            with self._log.open("rb") as file:
                file.seek(self._position)
                data = file.read()
        except FileNotFoundError:
            return []
        whole = data[: data.rfind(b"\n") + 1]
        self._position += len(whole)
        if whole:
            for rank in range(self._ranks):
                heartbeat_path(self._training_dir, rank).touch()
        return whole.decode("utf-8", errors="replace").splitlines()


class LogScribe:
    """Reads what is new in the log of rank 0, and writes the events that follow from it."""

    def __init__(self, tail: LogTail, training_dir: Path, builder: EventBuilder, best: BestWeights) -> None:
        self._tail, self._training_dir, self._builder, self._best = tail, training_dir, builder, best
        self._writer = EventWriter(events_path(training_dir))
        self._epoch_ended = time.monotonic()
        self._step = 0

    def look(self) -> list[AnyEvent]:
        """Write and return the events of the lines since the last look.

        Raises:
            NonFiniteLossError: the loss is NaN or infinite.
        """
        return [self._written(event) for line in self._tail.lines() for event in self._events(read_log_line(line))]

    def finish(self) -> list[AnyEvent]:
        """Write and return the last events, after the processes have ended well.

        Raises:
            RankFailedError: they ended before the last epoch.
            CheckpointError: the weights of the best epoch are gone.
        """
        events = self.look()
        last = self._builder.finish()
        if path := self._best.take_at_the_end(self._builder.paddle_version):
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
                self._best.want(event.epoch, event.top1)
            yield event
        if isinstance(entry, ModelSaved):
            stem = Path(entry.stem)
            if epoch := epoch_of_stem(entry.stem):
                yield self._saved(stem.with_name(f"{stem.name}.pdparams"), epoch, is_best=False)
            if path := self._best.take(stem, self._builder.paddle_version):
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
