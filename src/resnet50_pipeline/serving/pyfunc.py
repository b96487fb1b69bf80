"""The model's face to MLflow: a table of images in, a table of predictions out.

MLflow imports this module from the copy of the package that lies in the model, and calls `_load_pyfunc`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from resnet50_pipeline.exceptions import ExportError
from resnet50_pipeline.serving.images import UnreadableImage, read_image, read_image_file
from resnet50_pipeline.serving.predictor import Prediction, Predictor

IMAGE, PATH = "image", "path"
COLUMNS = ("top_ids", "top_names", "top_synsets", "top_probabilities", "status", "error")


class ImageClassifier:
    """What `mlflow.pyfunc.load_model` calls."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor

    def predict(self, model_input: pd.DataFrame, params: Mapping[str, Any] | None = None) -> pd.DataFrame:
        """Return a row an image, in their order.

        Args:
            model_input: with a column `image` of bytes (JPEG, PNG, …) or of their base64 text, or a column `path`
                of file names. Where a row has both, the image counts.
            params: `top_k`, classes of each image.

        Returns:
            Columns `top_ids`, `top_names`, `top_synsets` and `top_probabilities`, the best class first, `status` (200,
            or as HTTP would say it) and `error`: "" or why this image could not be classified.

        Raises:
            ExportError: the table has neither column, or columns of one row are lists of different lengths.
        """
        if not {IMAGE, PATH} & set(model_input.columns):
            raise ExportError(
                f"the table must have a column {IMAGE} (bytes or base64 text) or {PATH} (file names); it has "
                f"{', '.join(map(str, model_input.columns)) or 'none'}"
            )
        model_input = _spread_columns(model_input)
        found = [_read_row(row) for row in model_input.to_dict("records")]
        predictions = self._predictor.predict(
            [one for one in found if isinstance(one, bytes)], (params or {}).get("top_k")
        )
        answers = iter(predictions)
        rows = [next(answers) if isinstance(one, bytes) else _as_prediction(one) for one in found]
        return _as_table(rows, model_input.index)


def _load_pyfunc(data_path: str) -> ImageClassifier:
    """Return the model of the folder `data_path`; MLflow knows this name."""
    return ImageClassifier(Predictor(Path(data_path)))


def _spread_columns(table: pd.DataFrame) -> pd.DataFrame:
    """Return a row an image of the JSON `{"inputs": {"image": [one, other]}}`, which MLflow makes one row of lists."""
    columns = [name for name in (IMAGE, PATH) if name in table]
    lists = [name for name in columns if len(table) == 1 and isinstance(table[name].iloc[0], list | np.ndarray)]
    if not lists:
        return table
    try:
        return table[columns].explode(lists, ignore_index=True)
    except ValueError as error:
        raise ExportError(f"the columns {' and '.join(lists)} must be lists of the same length: {error}") from error


def _read_row(row: Mapping[Any, Any]) -> bytes | UnreadableImage:
    if not _is_missing(row.get(IMAGE)):
        return read_image(row[IMAGE])
    if not _is_missing(row.get(PATH)):
        return read_image_file(row[PATH])
    return UnreadableImage(400, f"the row has no {IMAGE} and no {PATH}")


def _is_missing(value: object) -> bool:
    # pandas fills cells that have no value with NaN.
    return value is None or value is pd.NA or (isinstance(value, float) and value != value)  # noqa: PLR0124


def _as_prediction(unreadable: UnreadableImage) -> Prediction:
    return Prediction(error=unreadable.message, status=unreadable.status)


def _as_table(predictions: list[Prediction], index: pd.Index) -> pd.DataFrame:
    rows = [
        (list(one.ids), list(one.names), list(one.synsets), list(one.probabilities), one.status, one.error)
        for one in predictions
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS), index=index)
