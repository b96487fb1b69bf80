"""The model's face to MLflow: a table of encoded images in, a table of predictions out.

MLflow imports this module from the copy of the package that lies in the model, and calls `_load_pyfunc`.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from resnet50_pipeline.serving.predictor import Prediction, Predictor

IMAGE = "image"


class ImageClassifier:
    """What `mlflow.pyfunc.load_model` calls."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor

    def predict(self, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Return a row an image, in their order.

        Args:
            model_input: with a column `image` of bytes (JPEG, PNG, …) or of their base64 text.
            params: none are known.

        Returns:
            Columns `top5_ids`, `top5_names`, `top5_synsets`, `top5_probabilities`, the best class first (all classes
            where there are fewer than five), and `error`: "" or why this image could not be classified.
        """
        images, errors = [], {}
        for position, value in enumerate(model_input[IMAGE]):
            try:
                images.append(_as_bytes(value))
            except ValueError as error:
                errors[position] = str(error)
                images.append(b"")
        predictions = self._predictor.predict(images)
        for position, message in errors.items():
            predictions[position] = replace(predictions[position], error=message)
        return _as_table(predictions, model_input.index)


def _load_pyfunc(data_path: str) -> ImageClassifier:
    """Return the model of the folder `data_path`; MLflow knows this name."""
    return ImageClassifier(Predictor(Path(data_path)))


def _as_bytes(value: object) -> bytes:
    """Return the bytes of an image that comes as such, or as base64, which is how JSON carries it.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if isinstance(value, str):
        try:
            return base64.b64decode(value, validate=True)
        except binascii.Error as error:
            raise ValueError(f"the text is not base64: {error}") from error
    raise ValueError(f"an image is bytes or base64 text, not {type(value).__name__}")


def _as_table(predictions: list[Prediction], index: pd.Index) -> pd.DataFrame:
    rows = [
        {
            "top5_ids": list(prediction.ids),
            "top5_names": list(prediction.names),
            "top5_synsets": list(prediction.synsets),
            "top5_probabilities": list(prediction.probabilities),
            "error": prediction.error,
        }
        for prediction in predictions
    ]
    columns = ["top5_ids", "top5_names", "top5_synsets", "top5_probabilities", "error"]
    return pd.DataFrame(rows, columns=columns, index=index)
