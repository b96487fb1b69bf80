"""Evaluates the network on the val list at the end of an epoch."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import paddle

from resnet50_pipeline.events import EvalEnd, EvalProgress
from resnet50_pipeline.trainer.evaluation import EvaluationReporter, predict
from resnet50_pipeline.trainer.heartbeat import Heartbeat
from resnet50_pipeline.trainer.ranks import Ranks
from resnet50_pipeline.trainer.run_data import RunData
from resnet50_pipeline.trainer.stopping import StopRequest


@dataclass(frozen=True)
class Evaluated:
    """The results of an evaluation, combined over all ranks.

    Attributes:
        images: number of images.
        loss: mean loss per image.
        top1: top-1 accuracy, 0..1.
        top5: top-5 accuracy, 0..1.
        balanced_accuracy: mean accuracy per class, over all classes that have images, 0..1.
        images_per_second: total throughput of all ranks.
    """

    images: int
    loss: float
    top1: float
    top5: float
    balanced_accuracy: float
    images_per_second: float

    def to_event(self, epoch: int, step: int, *, is_best: bool, balanced_accuracy: float | None) -> EvalEnd:
        """Return the event for this evaluation, with the balanced accuracy only if it determines the best set."""
        return EvalEnd(
            epoch=epoch,
            step=step,
            images=self.images,
            loss=self.loss,
            top1=self.top1,
            top5=self.top5,
            images_per_second=self.images_per_second,
            is_best=is_best,
            balanced_accuracy=balanced_accuracy,
        )


def validate(
    network: paddle.nn.Layer,
    data: RunData,
    ranks: Ranks,
    *,
    class_num: int,
    heartbeat: Heartbeat,
    emit: Callable[[EvalProgress], None],
    stop: StopRequest,
) -> Evaluated | None:
    """Evaluate the network on the val list. All ranks must call this function.

    Return None if a rank was asked to stop before the evaluation finished.
    """
    started = time.perf_counter()
    reporter = EvaluationReporter(emit, data.val_images, ranks)
    predictions = predict(network, data.val_loader, min(5, class_num), heartbeat, reporter=reporter, stop=stop)
    # A signal may reach only one rank. Summing the flags makes all ranks reach the same decision.
    images_of_class, hits_of_class = predictions.count_classes(class_num)
    totals = ranks.sum([float(stop.is_set), *predictions.sums, *images_of_class, *hits_of_class])
    stopping, images, loss, top1, top5 = (float(value) for value in totals[:5])
    if stopping:
        return None
    images_of_class, hits_of_class = np.split(totals[5:], 2)
    present = images_of_class > 0
    return Evaluated(
        images=int(images),
        loss=loss / images,
        top1=top1 / images,
        top5=top5 / images,
        balanced_accuracy=float((hits_of_class[present] / images_of_class[present]).mean()),
        images_per_second=images / (time.perf_counter() - started),
    )
