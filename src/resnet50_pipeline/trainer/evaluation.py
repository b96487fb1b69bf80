"""Predictions for a whole list, every image exactly once, whatever the number of ranks."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import paddle
import paddle.nn.functional as F  # noqa: N812 - the field's own abbreviation
from numpy.typing import NDArray

from resnet50_pipeline.events import EvalProgress, EventWriter
from resnet50_pipeline.files import replacing_file, write_text
from resnet50_pipeline.imagenet.list_files import read_list_file
from resnet50_pipeline.trainer.data import ListDataset, Loader
from resnet50_pipeline.trainer.evaluated_model import load_evaluated_model
from resnet50_pipeline.trainer.heartbeat import Heartbeat
from resnet50_pipeline.trainer.ranks import Ranks
from resnet50_pipeline.trainer.sampling import EvalBatches
from resnet50_pipeline.trainer.stopping import StopRequest
from resnet50_pipeline.training_config import TrainingConfig
from resnet50_pipeline.training_dir import events_path

_SECONDS_BETWEEN_EVENTS = 5.0


@dataclass(frozen=True)
class Predictions:
    """What one rank found for its images: arrays of N rows, k = min(5, class_num) columns."""

    index: NDArray[np.int64]
    label: NDArray[np.int64]
    top_ids: NDArray[np.int64]
    top_probabilities: NDArray[np.float32]
    loss: NDArray[np.float32]
    seconds: float
    loading_seconds: float

    @property
    def sums(self) -> list[float]:
        """Images, summed loss, top-1 hits and top-5 hits."""
        hits = self.top_ids == self.label[:, None]
        return [
            float(len(self.index)),
            float(self.loss.sum(dtype=np.float64)),
            float(hits[:, 0].sum()),
            float(hits.any(axis=1).sum()),
        ]


class EvaluationReporter:
    """Tells the events how far all ranks are, which work side by side, from what the first one has done."""

    def __init__(self, tell: Callable[[EvalProgress], None], total: int, ranks: Ranks) -> None:
        """Tell of `total` images; ranks but the first tell nothing."""
        self._tell, self._total, self._ranks = tell, total, ranks
        self._images = 0
        self._started = self._told = time.monotonic()

    def add(self, images: int) -> None:
        """Count a batch of this rank."""
        self._images += images
        now = time.monotonic()
        if self._ranks.is_first and now - self._told >= _SECONDS_BETWEEN_EVENTS:
            self._told = now
            done = min(self._images * self._ranks.count, self._total)
            self._tell(EvalProgress(images=done, total=self._total, images_per_second=done / (now - self._started)))


def predict(
    network: paddle.nn.Layer,
    loader: Loader,
    top_k: int,
    heartbeat: Heartbeat,
    *,
    reporter: EvaluationReporter | None = None,
    stop: StopRequest | None = None,
) -> Predictions:
    """Return the predictions for the batches of a loader, as far as it got when `stop` was set.

    The network is left in evaluation mode.
    """
    network.eval()
    columns: list[tuple[NDArray[np.generic], ...]] = []
    started = waiting_since = time.perf_counter()
    loading_seconds = 0.0
    with paddle.no_grad():
        for batch in loader:
            loading_seconds += time.perf_counter() - waiting_since
            logits = network(batch.images)
            losses = F.cross_entropy(logits, batch.labels.reshape([-1, 1]), reduction="none").reshape([-1])
            probabilities, ids = paddle.topk(F.softmax(logits, axis=-1), k=top_k, axis=-1)
            columns.append(tuple(tensor.numpy() for tensor in (batch.index, batch.labels, ids, probabilities, losses)))
            heartbeat.beat()
            if reporter is not None:
                reporter.add(len(batch.labels))
            if stop is not None and stop.is_set:
                break
            waiting_since = time.perf_counter()
    seconds = time.perf_counter() - started
    if not columns:  # more ranks than images
        none = np.zeros(0, dtype=np.int64)
        empty = np.zeros((0, top_k))
        return Predictions(
            none, none, empty.astype(np.int64), empty.astype(np.float32), none.astype(np.float32), seconds, 0.0
        )
    index, label, top_ids, top_probabilities, loss = (np.concatenate(column) for column in zip(*columns, strict=True))
    return Predictions(index, label, top_ids, top_probabilities, loss, seconds, loading_seconds)


def evaluate(config: TrainingConfig, ranks: Ranks, heartbeat: Heartbeat, *, model: Path, list_file: Path) -> None:
    """Predict every image of a list with a checkpoint set, a file of weights or an exported model.

    Every rank writes `predictions.<rank>.npz` (the arrays of `Predictions`) beside its heartbeat, and rank 0
    `evaluation_summary.json`, and how far it is to `events.jsonl`.

    Raises:
        CheckpointError: the model is damaged or of another network.
        ExportError: the exported model cannot be loaded.
        ImageDecodeError: an image cannot be read; nothing is skipped or replaced.
    """
    output_dir = heartbeat.folder
    evaluated = load_evaluated_model(config, model)
    entries = read_list_file(list_file, class_num=config.Arch.class_num)
    split = config.DataLoader.Eval
    loader = Loader(
        ListDataset(entries, split, config.Global.seed),
        EvalBatches(len(entries), split.sampler.batch_size, ranks),
        split,
    )
    with contextlib.ExitStack() as closing:
        reporter = EvaluationReporter(_teller(output_dir, ranks, closing), len(entries), ranks)
        found = predict(evaluated.network, loader, min(5, config.Arch.class_num), heartbeat, reporter=reporter)
    with replacing_file(output_dir / f"predictions.{ranks.rank}.npz") as temporary, temporary.open("wb") as file:
        np.savez(
            file,
            index=found.index,
            label=found.label,
            top_ids=found.top_ids,
            top_probabilities=found.top_probabilities,
            loss=found.loss,
        )
    # Ranks work side by side: the slowest one's time is the evaluation's.
    seconds, forward_seconds = ranks.gather([found.seconds, found.seconds - found.loading_seconds]).max(axis=0)
    if ranks.is_first:
        summary = {
            "epoch": evaluated.epoch,
            "step": evaluated.step,
            "weights_digest": evaluated.weights_digest,
            "ranks": ranks.count,
            "device": config.Global.device,
            "images": len(entries),
            "seconds": float(seconds),
            "images_per_second": float(len(entries) / seconds),
            "images_per_second_without_loading": float(len(entries) / forward_seconds),
            "paddle_version": paddle.__version__,
        }
        write_text(output_dir / "evaluation_summary.json", json.dumps(summary, indent=2) + "\n")


def _teller(folder: Path, ranks: Ranks, closing: contextlib.ExitStack) -> Callable[[EvalProgress], None]:
    if not ranks.is_first:
        return lambda _event: None
    writer = EventWriter(events_path(folder))
    closing.callback(writer.close)
    return writer.write
