"""Shows which image regions predictions are based on, with heat maps over the images."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from resnet50_pipeline.exceptions import DatasetError, ImageDecodeError, TrainingConfigError
from resnet50_pipeline.imagenet.lists.files import read_list_file
from resnet50_pipeline.imagenet.shards.source import open_images
from resnet50_pipeline.imaging.operators import build_transform
from resnet50_pipeline.recipe.document import TrainingConfig, read_training_config
from resnet50_pipeline.reporting.batch_samples import show_images
from resnet50_pipeline.reporting.classes import read_class_names
from resnet50_pipeline.reporting.prediction_table import PredictionTable, read_prediction_table
from resnet50_pipeline.reporting.thumbnails import THUMBNAIL_SIDE, encode_thumbnail
from resnet50_pipeline.text import pluralize

logger = logging.getLogger(__name__)

_HEAT_WEIGHT = 0.5


@dataclass(frozen=True)
class ExplainedImage:
    """An image, as the network sees it, overlaid with the heat map of its predicted class.

    Attributes:
        path: path of the image.
        image: WebP file in base64.
        label: name of the true class.
        prediction: name and probability of the predicted class.
        is_correct: whether the two classes are the same.
    """

    path: str
    image: str
    label: str
    prediction: str
    is_correct: bool


def explain_predictions(
    config_file: Path, predictions: pd.DataFrame, image_root: Path, label_map: Mapping[str, Any]
) -> tuple[ExplainedImage, ...]:
    """Return the images with heat maps: first the wrong predictions, most confident first, then the correct ones.

    Args:
        config_file: training configuration.
        predictions: predictions with the column `grad_cam`.
        image_root: folder that the paths of the predictions are relative to.
        label_map: class names.

    Returns:
        The images, except any that cannot be read, or no images if the configuration or the shards cannot be read. The
        reasons are logged.
    """
    names = read_class_names(label_map)
    table = read_prediction_table(predictions, len(names))
    rows = np.flatnonzero(predictions["grad_cam"].notna())
    order = np.lexsort([np.where(table.is_top1, 1, -1)[rows] * table.top_probabilities[rows, 0], table.is_top1[rows]])
    try:
        config = read_training_config(config_file)
        transform = build_transform(config.DataLoader.Eval.dataset.transform_ops)
        read = _open(config, table, image_root)
    except (DatasetError, OSError, TrainingConfigError) as error:
        logger.warning("the report shows no heat maps: %s", _first_line(error))
        return ()
    shown: dict[int, NDArray[np.uint8]] = {}
    problems = []
    for row in rows[order].tolist():
        try:
            shown[row] = show_images(transform(read(row))[None], transform)[0]
        except (ImageDecodeError, OSError) as error:
            problems.append(f"{table.paths[row]}: {_first_line(error)}")
    if problems:
        hidden = pluralize(len(problems), "image")
        logger.warning("the report shows no heat map for %s, such as %s", hidden, problems[0])
    return tuple(
        ExplainedImage(
            path=str(table.paths[row]),
            image=encode_thumbnail(draw_heat_map(pixels, np.array(predictions["grad_cam"].iloc[row], np.float32))),
            label=names.labels[table.labels[row]],
            prediction=f"{names.labels[table.predicted[row]]} {table.top_probabilities[row, 0]:.1%}",
            is_correct=bool(table.is_top1[row]),
        )
        for row, pixels in shown.items()
    )


def _open(config: TrainingConfig, table: PredictionTable, image_root: Path) -> Callable[[int], bytes]:
    """Return a function that reads the image of a row, from the shards if the predictions are for the val list.

    Raises:
        DatasetError: if the shards are damaged, or were not packed from the val list.
    """
    dataset = config.DataLoader.Eval.dataset
    if dataset.shards is not None:
        entries = read_list_file(Path(dataset.cls_label_path), config.Arch.class_num)
        if list(entries.paths) == table.paths.tolist():
            return open_images(entries, image_root, Path(dataset.shards)).read
    return lambda row: (image_root / table.paths[row]).read_bytes()


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]


def draw_heat_map(pixels: NDArray[np.uint8], values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return the image overlaid with the heat map, enlarged to the size of a thumbnail.

    Args:
        pixels: BGR, [side, side, 3].
        values: square heat map of any size, flattened row by row; 0..1.
    """
    side, map_side = max(THUMBNAIL_SIDE, len(pixels)), round(len(values) ** 0.5)
    way = cv2.INTER_NEAREST if len(pixels) < side else cv2.INTER_AREA
    gray = cv2.cvtColor(cv2.resize(pixels, (side, side), interpolation=way), cv2.COLOR_BGR2GRAY)
    heat = cv2.resize(values.reshape(map_side, map_side), (side, side), interpolation=cv2.INTER_LINEAR)
    colors = cv2.applyColorMap((255 * np.clip(heat, 0, 1)).astype(np.uint8), cv2.COLORMAP_VIRIDIS)
    mixed: NDArray[np.uint8] = cv2.addWeighted(
        colors, _HEAT_WEIGHT, cv2.cvtColor(gray, cv2.COLOR_GRAY2BGR), 1 - _HEAT_WEIGHT, 0
    )
    return mixed
