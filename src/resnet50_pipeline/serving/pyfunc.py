"""Defines the model class for MLflow, which converts a DataFrame of images to a DataFrame of predictions.

MLflow imports this module from the package's copy in the model's folder and calls `_load_pyfunc`.
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
    """The Python model that `mlflow.pyfunc.load_model` wraps."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor

    def predict(self, model_input: pd.DataFrame, params: Mapping[str, Any] | None = None) -> pd.DataFrame:
        """Return one row per image, in order.

        Args:
            model_input: a DataFrame with an `image` column of encoded images (JPEG, PNG, …) as bytes or base64 text, or
                a `path` column of file names. In a row that has both, `image` is used.
            params: `top_k`, the number of classes per image.

        Returns:
            Columns `top_ids`, `top_names`, `top_synsets` and `top_probabilities` (lists, best class first), `status`
            (HTTP status code) and `error` ("" if the image was classified).

        Raises:
            ExportError: if the table has neither column, if the lists in the table have different lengths, or if
                `top_k` is below 1.
        """
        if not {IMAGE, PATH} & set(model_input.columns):
            raise ExportError(
                f"the table needs a column {IMAGE} (bytes or base64 text) or {PATH} (file names), but its columns are: "
                f"{', '.join(map(str, model_input.columns)) or 'none'}"
            )
        model_input = _spread_columns(model_input)
        images = [_read_row(row) for row in model_input.to_dict("records")]
        readable = [image for image in images if isinstance(image, bytes)]
        predictions = iter(self._predictor.predict(readable, (params or {}).get("top_k")))
        rows = [next(predictions) if isinstance(image, bytes) else _as_prediction(image) for image in images]
        return _as_table(rows, model_input.index)


def _load_pyfunc(data_path: str) -> ImageClassifier:
    """Load the model from the `data_path` folder. MLflow calls this function by name."""
    return ImageClassifier(Predictor(Path(data_path)))


def _spread_columns(table: pd.DataFrame) -> pd.DataFrame:
    """Return one row per image. MLflow converts the JSON `{"inputs": {"image": [a, b]}}` to a single row of lists.

    A list of numbers is left as it is, because it represents a single image, either as pixels or as bytes.
    """
    columns = [name for name in (IMAGE, PATH) if name in table]
    lists = [name for name in columns if len(table) == 1 and _is_list_of_images(table[name].iloc[0])]
    if not lists:
        return table
    if not any(len(table[name].iloc[0]) for name in lists):
        return table.iloc[:0]  # `explode` would turn an empty list into one row
    try:
        return table[columns].explode(lists, ignore_index=True)
    except ValueError as error:
        raise ExportError(f"the columns {' and '.join(lists)} must be lists of the same length: {error}") from error


def _is_list_of_images(value: object) -> bool:
    if isinstance(value, np.ndarray):
        value = value.tolist()
    return isinstance(value, list) and not (value and all(isinstance(item, int | float) for item in value))


def _read_row(row: Mapping[Any, Any]) -> bytes | UnreadableImage:
    if not _is_missing(row.get(IMAGE)):
        return read_image(row[IMAGE])
    if not _is_missing(row.get(PATH)):
        return read_image_file(row[PATH])
    return UnreadableImage(400, f"the row has neither {IMAGE} nor {PATH}")


def _is_missing(value: object) -> bool:
    # pandas fills missing cells with NaN.
    return value is None or value is pd.NA or (isinstance(value, float) and value != value)  # noqa: PLR0124


def _as_prediction(unreadable: UnreadableImage) -> Prediction:
    return Prediction(error=unreadable.message, status=unreadable.status)


def _as_table(predictions: list[Prediction], index: pd.Index) -> pd.DataFrame:
    rows = [
        (list(item.ids), list(item.names), list(item.synsets), list(item.probabilities), item.status, item.error)
        for item in predictions
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS), index=index)
