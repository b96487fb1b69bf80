"""Classifies encoded images with an exported inference model."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from paddle import inference

from resnet50_pipeline.exceptions import ExportError, ImageDecodeError
from resnet50_pipeline.imaging.operators import build_transform

MODEL = "inference"
PROGRAMS = (f"{MODEL}.json", f"{MODEL}.pdmodel")  # Paddle from 3.0 on, and before
MAX_BATCH = 64
_SUM_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Prediction:
    """The best classes of one image, the best one first.

    Attributes:
        ids: class ids, 0-based.
        names: of these classes, as people call them.
        synsets: of these classes, WordNet ids as n01440764.
        probabilities: of these classes, 0..1.
        error: why the image could not be classified; then the others are empty. "" if it could.
        status: as of HTTP: 200, or 400 (neither bytes nor base64), 403 (a path that may not be read), 404 (no such
            file), 415 (no image that can be decoded).
    """

    ids: tuple[int, ...] = ()
    names: tuple[str, ...] = ()
    synsets: tuple[str, ...] = ()
    probabilities: tuple[float, ...] = ()
    error: str = ""
    status: int = 200


class Predictor:
    """An inference model in memory, with the preprocessing and the class names that belong to it."""

    def __init__(self, model_dir: Path) -> None:
        """Load `inference.json` (or `.pdmodel`), `inference.pdiparams`, `inference.yml` and `label_map.json`.

        Raises:
            ExportError: a file is missing.
            TrainingConfigError: inference.yml asks for preprocessing that is not supported.
        """
        config = yaml.safe_load(_require(model_dir, "inference.yml").read_text(encoding="utf-8"))
        label_map = json.loads(_require(model_dir, "label_map.json").read_text(encoding="utf-8"))
        self._transform = build_transform(config["PreProcess"]["transform_ops"])
        self._top_k = int(config["PostProcess"]["Topk"]["topk"])
        self._classes: list[dict[str, Any]] = label_map["classes"]
        settings = inference.Config(str(_require(model_dir, *PROGRAMS)), str(_require(model_dir, f"{MODEL}.pdiparams")))
        settings.disable_glog_info()
        self._predictor = inference.create_predictor(settings)
        self._turn = threading.Lock()

    def predict(self, images: Sequence[bytes], top_k: int | None = None) -> list[Prediction]:
        """Return a prediction an image, in their order; one that cannot be decoded gets an error of its own.

        Args:
            images: bytes of encoded images (JPEG, PNG, …), any number of them.
            top_k: classes of each; where not given, as many as inference.yml says. At most all that there are.

        Raises:
            ExportError: `top_k` is below 1.
        """
        top_k = self._top_k if top_k is None else top_k
        if top_k < 1:
            raise ExportError(f"top_k is {top_k}, it must be 1 or more")
        predictions: list[Prediction] = []
        for start in range(0, len(images), MAX_BATCH):
            predictions += self._predict_batch(images[start : start + MAX_BATCH], top_k)
        return predictions

    def _predict_batch(self, images: Sequence[bytes], top_k: int) -> list[Prediction]:
        predictions = [Prediction()] * len(images)
        pixels: list[NDArray[np.float32]] = []
        positions: list[int] = []
        for position, image in enumerate(images):
            try:
                pixels.append(self._transform(image, None))
            except ImageDecodeError as error:
                predictions[position] = Prediction(error=f"not an image that can be decoded: {error}", status=415)
            else:
                positions.append(position)
        if pixels:
            for position, probabilities in zip(positions, self._classify(np.stack(pixels)), strict=True):
                predictions[position] = self._describe(probabilities, top_k)
        return predictions

    def _classify(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return probabilities [images, classes] of pixels [images, 3, height, width]."""
        # Paddle's predictor has one input and one output buffer, and MLflow's server calls from many threads.
        with self._turn:
            self._predictor.get_input_handle(self._predictor.get_input_names()[0]).copy_from_cpu(pixels)
            self._predictor.run()
            output = self._predictor.get_output_handle(self._predictor.get_output_names()[0])
            probabilities: NDArray[np.float32] = output.copy_to_cpu()
        if np.abs(probabilities.sum(axis=1) - 1).max() > _SUM_TOLERANCE:
            raise ExportError("the inference model's outputs are no probabilities; export it with its softmax")
        return probabilities

    def _describe(self, probabilities: NDArray[np.float32], top_k: int) -> Prediction:
        # Stable, so that equal probabilities come in the order of their ids.
        ids = np.argsort(-probabilities, kind="stable")[:top_k]
        return Prediction(
            ids=tuple(int(class_id) for class_id in ids),
            names=tuple(str(self._classes[class_id]["name"]) for class_id in ids),
            synsets=tuple(str(self._classes[class_id]["synset"]) for class_id in ids),
            probabilities=tuple(float(probabilities[class_id]) for class_id in ids),
        )


def _require(model_dir: Path, *names: str) -> Path:
    """Return the first of the files that exists."""
    for name in names:
        if (model_dir / name).is_file():
            return model_dir / name
    raise ExportError(f"{model_dir} is no inference model: {' or '.join(names)} is missing")
