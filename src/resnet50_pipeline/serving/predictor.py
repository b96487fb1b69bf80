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
PROGRAMS = (f"{MODEL}.json", f"{MODEL}.pdmodel")  # Paddle 3.0 and newer, and Paddle 2
MAX_BATCH = 64
_SUM_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Prediction:
    """The most probable classes of an image, in descending order of probability.

    Attributes:
        ids: class ids, 0-based.
        names: readable names of the classes.
        synsets: WordNet ids of the classes, such as n01440764.
        probabilities: probabilities of the classes, 0..1.
        error: error message if the image could not be classified, otherwise "". If there is an error, all lists are
            empty.
        status: HTTP status code: 200, 400 (neither bytes nor base64), 403 (path not allowed), 404 (no such file), 413
            (file too large) or 415 (not a decodable image).
        features: pooled features, the input of the classifier (2,048 for ResNet50); only from a predictor with
            `with_features`.
    """

    ids: tuple[int, ...] = ()
    names: tuple[str, ...] = ()
    synsets: tuple[str, ...] = ()
    probabilities: tuple[float, ...] = ()
    error: str = ""
    status: int = 200
    features: tuple[float, ...] = ()


class Predictor:
    """A loaded inference model with its preprocessing and class names."""

    def __init__(self, model_dir: Path, *, with_features: bool = False) -> None:
        """Load `inference.json` (or `.pdmodel`), `inference.pdiparams`, `inference.yml` and `label_map.json`.

        Args:
            model_dir: folder of the exported model.
            with_features: whether predictions include the pooled features.

        Raises:
            ExportError: if a file is missing.
            TrainingConfigError: if inference.yml has unsupported preprocessing.
        """
        config = yaml.safe_load(_require(model_dir, "inference.yml").read_text(encoding="utf-8"))
        label_map = json.loads(_require(model_dir, "label_map.json").read_text(encoding="utf-8"))
        self._transform = build_transform(config["PreProcess"]["transform_ops"])
        self._top_k = int(config["PostProcess"]["Topk"]["topk"])
        self._classes: list[dict[str, Any]] = label_map["classes"]
        settings = inference.Config(str(_require(model_dir, *PROGRAMS)), str(_require(model_dir, f"{MODEL}.pdiparams")))
        settings.disable_glog_info()
        self._predictor = inference.create_predictor(settings)
        self._lock = threading.Lock()
        self._with_features = with_features
        self._features: NDArray[np.float32] | None = None
        if with_features:
            self._predictor.register_output_hook(self._keep_features)

    def predict(self, images: Sequence[bytes], top_k: int | None = None) -> list[Prediction]:
        """Return one prediction per image, in order. An image that cannot be decoded gets a prediction with an error.

        Args:
            images: any number of encoded images (JPEG, PNG, …).
            top_k: number of classes per image, at most `class_num`. Defaults to the number in inference.yml.

        Raises:
            ExportError: if `top_k` is below 1, or the model's outputs are not probabilities.
        """
        top_k = self._top_k if top_k is None else top_k
        if top_k < 1:
            raise ExportError(f"top_k is {top_k}; it must be at least 1")
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
                predictions[position] = Prediction(error=f"the image {error}", status=415)
            else:
                positions.append(position)
        if pixels:
            outputs = self._classify(np.stack(pixels))
            for position, probabilities, features in zip(positions, *outputs, strict=True):
                predictions[position] = self._describe(probabilities, features, top_k)
        return predictions

    def _classify(self, pixels: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the probabilities [images, classes] and features for pixels [images, 3, height, width].

        The features are [images, channels], or [images, 0] if they are not needed.
        """
        # Paddle's predictor has only one input and one output buffer, but MLflow's server uses many threads.
        with self._lock:
            self._predictor.get_input_handle(self._predictor.get_input_names()[0]).copy_from_cpu(pixels)
            self._predictor.run()
            output = self._predictor.get_output_handle(self._predictor.get_output_names()[0])
            probabilities: NDArray[np.float32] = output.copy_to_cpu()
            features = self._features if self._with_features else np.empty((len(pixels), 0), np.float32)
        if features is None:
            raise ExportError("the inference model has no layer that flattens its features; choose a ResNet")
        if np.abs(probabilities.sum(axis=1) - 1).max() > _SUM_TOLERANCE:
            raise ExportError("the inference model's outputs are not probabilities; export the model with softmax")
        return probabilities, features

    def _keep_features(self, operator: str, _tensor_name: str, output: Any) -> None:
        # In the ResNet family, only the pooled features are flattened. The operator is flatten_contiguous_range in
        # Paddle 2.6, and pd_op.flatten:57 or onednn_op.flatten:57 in Paddle 3.
        if "flatten" in operator:
            self._features = np.array(output)

    def _describe(self, probabilities: NDArray[np.float32], features: NDArray[np.float32], top_k: int) -> Prediction:
        # A stable sort orders equal probabilities by class id, so that results are reproducible.
        ids = np.argsort(-probabilities, kind="stable")[:top_k]
        return Prediction(
            ids=tuple(int(class_id) for class_id in ids),
            names=tuple(str(self._classes[class_id]["name"]) for class_id in ids),
            synsets=tuple(str(self._classes[class_id]["synset"]) for class_id in ids),
            probabilities=tuple(float(probabilities[class_id]) for class_id in ids),
            features=tuple(features.tolist()),
        )


def _require(model_dir: Path, *names: str) -> Path:
    """Return the path of the first existing file among `names`.

    Raises:
        ExportError: if none of the files exists.
    """
    for name in names:
        if (model_dir / name).is_file():
            return model_dir / name
    raise ExportError(
        f"{model_dir} is not an inference model, because {' or '.join(names)} is missing; export the model again with "
        f"`kedro run --pipelines model_registration`"
    )
