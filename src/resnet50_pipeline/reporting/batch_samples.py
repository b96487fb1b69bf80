"""Shows a few images from a training batch and an evaluation batch, as the network sees them."""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from resnet50_pipeline.exceptions import DatasetError, ImageDecodeError, TrainingConfigError
from resnet50_pipeline.imagenet.lists.files import read_list_file
from resnet50_pipeline.imagenet.shards.source import open_images
from resnet50_pipeline.imaging.operators import build_transform
from resnet50_pipeline.imaging.transform import Transform
from resnet50_pipeline.recipe.data_loader import SplitConfig
from resnet50_pipeline.recipe.document import read_training_config
from resnet50_pipeline.reporting.classes import ClassNames, read_class_names
from resnet50_pipeline.reporting.prediction_table import PredictionTable, read_prediction_table
from resnet50_pipeline.reporting.thumbnails import SIDE_KEPT_LOSSLESS, encode_thumbnail

logger = logging.getLogger(__name__)

IMAGES = 16
_SEED = 0


@dataclass(frozen=True)
class Sample:
    """An image as the network sees it."""

    image: str
    """WebP file in base64."""
    label: str
    """Name of the true class. For a mixed image, both names with their shares."""
    prediction: str = ""
    """Name and probability of the predicted class, or "" for a training image."""
    is_correct: bool = True
    is_tiny: bool = False
    """Whether the page should enlarge the image without smoothing it."""


@dataclass(frozen=True)
class BatchSamples:
    """Images from a training batch and an evaluation batch."""

    training: tuple[Sample, ...]
    evaluation: tuple[Sample, ...]


def sample_batches(
    config_file: Path, predictions: pd.DataFrame, image_root: Path, label_map: Mapping[str, Any]
) -> BatchSamples | None:
    """Return random images from the training list, augmented as in the first epoch, and random evaluated images.

    The same inputs always yield the same images.

    Args:
        config_file: training configuration.
        predictions: predictions from the evaluation.
        image_root: folder that the paths of the predictions are relative to.
        label_map: class names.

    Returns:
        The samples, or None if the configuration or an image cannot be read. The reason is logged.
    """
    names = read_class_names(label_map)
    table = read_prediction_table(predictions, len(names))
    try:
        loaders = read_training_config(config_file).DataLoader
        return BatchSamples(
            _sample_training(loaders.Train, names), _sample_evaluation(loaders.Eval, table, image_root, names)
        )
    except (DatasetError, ImageDecodeError, OSError, TrainingConfigError) as error:
        reason, *_ = str(error).splitlines()
        logger.info("the report shows no training or evaluation batch: %s", reason)
        return None


def _sample_training(config: SplitConfig, names: ClassNames) -> tuple[Sample, ...]:
    dataset = config.dataset
    entries = read_list_file(Path(dataset.cls_label_path), len(names))
    source = open_images(entries, Path(dataset.image_root), None if dataset.shards is None else Path(dataset.shards))
    draw = random.Random(_SEED)  # noqa: S311 - reproducible, not secret
    rows = draw.sample(range(len(entries)), min(IMAGES, len(entries)))
    transform = build_transform(dataset.transform_ops)
    images = np.stack([transform(source.read(row), draw) for row in rows])
    labels = [names.labels[entries.labels[row]] for row in rows]
    for operator in dataset.batch_transform_ops:
        plan = operator.plan(len(images), images.shape[-1], np.random.default_rng(_SEED))
        plan.mix(images)
        labels = [_mix_names(labels, index, int(plan.partner[index]), plan.share) for index in range(len(labels))]
    return tuple(
        _make_sample(pixels, label) for pixels, label in zip(show_images(images, transform), labels, strict=True)
    )


def _sample_evaluation(
    config: SplitConfig, table: PredictionTable, image_root: Path, names: ClassNames
) -> tuple[Sample, ...]:
    draw = random.Random(_SEED)  # noqa: S311 - reproducible, not secret
    rows = draw.sample(range(len(table.paths)), min(IMAGES, len(table.paths)))
    transform = build_transform(config.dataset.transform_ops)
    images = [show_images(transform((image_root / table.paths[row]).read_bytes())[None], transform)[0] for row in rows]
    return tuple(
        _make_sample(
            pixels,
            names.labels[table.labels[row]],
            prediction=f"{names.labels[table.predicted[row]]} {table.top_probabilities[row, 0]:.1%}",
            is_correct=bool(table.is_top1[row]),
        )
        for pixels, row in zip(images, rows, strict=True)
    )


def _mix_names(labels: Sequence[str], index: int, partner: int, share: float) -> str:
    if share == 1 or labels[index] == labels[partner]:
        return labels[index]
    return f"{share:.0%} {labels[index]}, {1 - share:.0%} {labels[partner]}"


def show_images(images: NDArray[np.float32], transform: Transform) -> NDArray[np.uint8]:
    """Undo the normalization of images [N, 3, height, width]. Return BGR pixels [N, height, width, 3]."""
    low, high = transform.normalize.table[0], transform.normalize.table[255]
    pixels = (images.transpose(0, 2, 3, 1) - low) / (high - low) * 255
    return np.ascontiguousarray(np.clip(np.round(pixels), 0, 255).astype(np.uint8)[..., ::-1])


def _make_sample(pixels: NDArray[np.uint8], label: str, **facts: Any) -> Sample:
    is_tiny = max(pixels.shape[:2]) <= SIDE_KEPT_LOSSLESS
    return Sample(encode_thumbnail(pixels), label, is_tiny=is_tiny, **facts)
