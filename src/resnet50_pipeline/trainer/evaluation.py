"""Classifies each image in a list exactly once, on any number of ranks."""

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
from resnet50_pipeline.exceptions import ExportError
from resnet50_pipeline.files import replacing_file, write_text
from resnet50_pipeline.imagenet.lists.files import read_list_file
from resnet50_pipeline.recipe.document import TrainingConfig
from resnet50_pipeline.trainer.data.dataset import ListDataset
from resnet50_pipeline.trainer.data.loader import Loader
from resnet50_pipeline.trainer.data.sampling import EvalBatches, Key
from resnet50_pipeline.trainer.evaluated_model import load_evaluated_model
from resnet50_pipeline.trainer.explanation.grad_cam import compute_grad_cam
from resnet50_pipeline.trainer.heartbeat import Heartbeat
from resnet50_pipeline.trainer.ranks import Ranks
from resnet50_pipeline.trainer.stopping import StopRequest
from resnet50_pipeline.training_dir import events_path

_SECONDS_BETWEEN_EVENTS = 5.0


@dataclass(frozen=True)
class Predictions:
    """A rank's predictions for its N images, with k = min(5, class_num).

    Attributes:
        index: [N], rows of the list file.
        label: [N], class ids.
        top_ids: [N, k], ids of the most probable classes, best first.
        top_probabilities: [N, k], in 0..1.
        loss: [N], cross-entropy.
        seconds: total time, including image loading.
        loading_seconds: time spent waiting for images.
    """

    index: NDArray[np.int64]
    label: NDArray[np.int64]
    top_ids: NDArray[np.int64]
    top_probabilities: NDArray[np.float32]
    loss: NDArray[np.float32]
    seconds: float
    loading_seconds: float

    @property
    def sums(self) -> list[float]:
        """Number of images, sum of losses, number of top-1 hits and number of top-5 hits."""
        hits = self.top_ids == self.label[:, None]
        return [
            float(len(self.index)),
            float(self.loss.sum(dtype=np.float64)),
            float(hits[:, 0].sum()),
            float(hits.any(axis=1).sum()),
        ]

    def count_classes(self, class_num: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the numbers of images and top-1 hits for each class, both float64 [class_num]."""
        hits = self.label[self.top_ids[:, 0] == self.label]
        images, correct = (np.bincount(labels, minlength=class_num) for labels in (self.label, hits))
        return images.astype(np.float64), correct.astype(np.float64)


class EvaluationReporter:
    """Reports the progress of an evaluation every few seconds.

    Only rank 0 reports. Rank 0 assumes that the other ranks are at the same point, because asking the other ranks would
    slow down all ranks.
    """

    def __init__(self, emit: Callable[[EvalProgress], None], total: int, ranks: Ranks) -> None:
        """Start timing an evaluation of `total` images across all ranks."""
        self._emit, self._total, self._ranks = emit, total, ranks
        self._images = 0
        self._started = self._last_report = time.monotonic()

    def add(self, images: int) -> None:
        """Add `images` to this rank's count, and report progress if a report is due."""
        self._images += images
        now = time.monotonic()
        if self._ranks.is_first and now - self._last_report >= _SECONDS_BETWEEN_EVENTS:
            self._last_report = now
            done = min(self._images * self._ranks.count, self._total)
            self._emit(EvalProgress(images=done, total=self._total, images_per_second=done / (now - self._started)))


def predict(
    network: paddle.nn.Layer,
    loader: Loader,
    top_k: int,
    heartbeat: Heartbeat,
    *,
    reporter: EvaluationReporter | None = None,
    stop: StopRequest | None = None,
) -> Predictions:
    """Return the predictions for all batches of a loader. The network is left in evaluation mode.

    Args:
        network: float32 [N, 3, H, W] → logits [N, class_num].
        loader: loader for this rank's batches.
        top_k: number of classes per image.
        heartbeat: updated after each batch.
        reporter: reports progress. None disables progress reports.
        stop: once a stop is requested, the function returns the predictions so far.
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
    if not columns:  # this rank has no images, because there are more ranks than images
        none = np.zeros(0, dtype=np.int64)
        empty = np.zeros((0, top_k))
        return Predictions(
            none, none, empty.astype(np.int64), empty.astype(np.float32), none.astype(np.float32), seconds, 0.0
        )
    index, label, top_ids, top_probabilities, loss = (np.concatenate(column) for column in zip(*columns, strict=True))
    return Predictions(index, label, top_ids, top_probabilities, loss, seconds, loading_seconds)


def evaluate(
    config: TrainingConfig,
    ranks: Ranks,
    heartbeat: Heartbeat,
    *,
    model: Path,
    list_file: Path,
    grad_cam_images: int = 0,
) -> None:
    """Classify all images in a list with a checkpoint set, a weights file or an exported model.

    Each rank writes the arrays of its `Predictions` to `predictions.<rank>.npz` in the folder of its heartbeat. Rank 0
    also writes `evaluation_summary.json`, and reports its progress to `events.jsonl`.

    Args:
        config: configuration of the run.
        ranks: connection to the other ranks.
        heartbeat: heartbeat of this rank. Its folder is the output folder.
        model: path of the model (see `load_evaluated_model`).
        list_file: list of the images to classify.
        grad_cam_images: number of images, over all ranks, for which heat maps are written to `grad_cam.<rank>.npz`.

    Raises:
        CheckpointError: if the model is damaged or from another network.
        ExportError: if the exported model cannot be loaded, or if heat maps are requested for it.
        ImageDecodeError: if an image cannot be read. An evaluation never skips or replaces images.
    """
    output_dir = heartbeat.folder
    evaluated = load_evaluated_model(config, model)
    if grad_cam_images and not hasattr(evaluated.network, "blocks"):
        raise ExportError(
            f"{model}: heat maps cannot be computed for an exported model → evaluate its checkpoint set, or set "
            "evaluation.grad_cam_images: 0"
        )
    entries = read_list_file(list_file, class_num=config.Arch.class_num)
    split = config.DataLoader.Eval
    dataset = ListDataset(entries, split, config.Global.seed)
    loader = Loader(
        dataset,
        EvalBatches(len(entries), split.sampler.batch_size, ranks),
        split,
    )
    with contextlib.ExitStack() as closing:
        reporter = EvaluationReporter(progress_writer(output_dir, ranks, closing), len(entries), ranks)
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
    if grad_cam_images:
        rows = choose_explained(found, -(-grad_cam_images // ranks.count))
        images = np.stack([dataset[Key(0, row)].pixels for row in rows]) if rows else np.zeros((0, 3, 1, 1), np.float32)
        maps = compute_grad_cam(evaluated.network, images, config.Arch.data_format) if rows else images[:, 0]
        with replacing_file(output_dir / f"grad_cam.{ranks.rank}.npz") as temporary, temporary.open("wb") as file:
            np.savez(file, index=np.array(rows, dtype=np.int64), maps=maps)
    # Ranks run in parallel, so the evaluation takes as long as its slowest rank.
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


def choose_explained(found: Predictions, images: int) -> list[int]:
    """Return the list rows of the most confident wrong predictions and the least confident correct ones.

    Half of the rows are wrong predictions, and half are correct ones. If there are too few of one kind, there are more
    of the other.
    """
    is_wrong, confidence = found.top_ids[:, 0] != found.label, found.top_probabilities[:, 0]
    wrong = found.index[is_wrong][np.argsort(-confidence[is_wrong], kind="stable")].tolist()
    right = found.index[~is_wrong][np.argsort(confidence[~is_wrong], kind="stable")].tolist()
    places = max(images // 2, images - len(right))
    return [*wrong[:places], *right[: images - min(places, len(wrong))]]


def progress_writer(folder: Path, ranks: Ranks, closing: contextlib.ExitStack) -> Callable[[EvalProgress], None]:
    """Return a function that writes events to `events.jsonl` on rank 0, and ignores them on all other ranks."""
    if not ranks.is_first:
        return lambda _event: None
    writer = EventWriter(events_path(folder))
    closing.callback(writer.close)
    return writer.write
