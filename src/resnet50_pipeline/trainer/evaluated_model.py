"""Loads the model to evaluate: a checkpoint set, a weights file (`.pdparams`, `.safetensors`) or an exported model."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paddle

from resnet50_pipeline.checkpoint_set import EMA, MANIFEST, WEIGHTS, read_state
from resnet50_pipeline.exceptions import CheckpointError, ExportError
from resnet50_pipeline.files import digest_file
from resnet50_pipeline.recipe.document import TrainingConfig
from resnet50_pipeline.trainer.checkpoints.pretrained import load_pretrained
from resnet50_pipeline.trainer.checkpoints.weights import load_evaluated_weights
from resnet50_pipeline.trainer.network import build_network
from resnet50_pipeline.trainer.small_maps import speed_up_small_maps

EXPORTED = "inference"
_EXPORTED_WEIGHTS = f"{EXPORTED}.pdiparams"
_EXPORT_CHECK = "export_check.json"


@dataclass(frozen=True)
class EvaluatedModel:
    """A network with information about its weights.

    Attributes:
        network: float32 [N, 3, H, W] → logits [N, class_num].
        weights_digest: digest of the weights file as `sha256:…`. For an exported model, the digest of the checkpoint's
            weights if the export recorded it.
        epoch: epoch of the checkpoint set, or None for other models.
        step: optimizer step of the checkpoint set, or None for other models.
    """

    network: paddle.nn.Layer
    weights_digest: str
    epoch: int | None
    step: int | None


def load_evaluated_model(config: TrainingConfig, path: Path) -> EvaluatedModel:
    """Load a checkpoint set, a weights file or an exported model for evaluation.

    Args:
        config: configuration of the run, which describes the network.
        path: a checkpoint set (folder with `MANIFEST.json`), an exported model (folder with `inference.pdiparams`), or
            a weights file.

    Raises:
        CheckpointError: if the path does not contain a model, or the model is damaged or from another network.
        ExportError: if Paddle cannot load the exported model.
    """
    if (path / _EXPORTED_WEIGHTS).is_file():
        return EvaluatedModel(_load_exported(path), _exported_digest(path), None, None)
    network = build_network(config.Arch)
    speed_up_small_maps(network)
    if path.is_dir():
        state = read_state(path)
        load_evaluated_weights(path, network)
        return EvaluatedModel(network, evaluated_weights_digest(path), state.epoch, state.step)
    loaded = load_pretrained(path, network)
    if loaded.initialized:
        raise CheckpointError(f"{loaded.describe(config.Arch.class_num)}; evaluate a model whose head was trained")
    return EvaluatedModel(network, digest_file(loaded.path), None, None)


def evaluated_weights_digest(checkpoint: Path) -> str:
    """Return the digest of a checkpoint set's averaged weights, or of its weights if it has no averaged weights.

    Args:
        checkpoint: path of a checkpoint set that `read_state` has verified.
    """
    digests: dict[str, str] = json.loads((checkpoint / MANIFEST).read_text(encoding="utf-8"))
    return digests[EMA if EMA in digests else WEIGHTS]


class _Logits(paddle.nn.Layer):
    """Converts an exported model's probabilities to logits. The logarithm inverts softmax, except for a constant."""

    def __init__(self, exported: Any) -> None:
        super().__init__()
        self._exported = exported

    def forward(self, images: paddle.Tensor) -> paddle.Tensor:
        # A probability can underflow to 0. Clip it to the smallest normal float32, so that the loss stays finite.
        return paddle.log(paddle.clip(self._exported(images), min=1.2e-38))


def _load_exported(path: Path) -> paddle.nn.Layer:
    try:
        return _Logits(paddle.jit.load(str(path / EXPORTED)))
    except (ValueError, RuntimeError, OSError) as error:
        raise ExportError(
            f"{path}: paddle {paddle.__version__} cannot load this exported model ({error}). It may have been exported "
            f"by another version of Paddle; evaluate its checkpoint set instead"
        ) from error


def _exported_digest(path: Path) -> str:
    if (path / _EXPORT_CHECK).is_file():
        check: dict[str, Any] = json.loads((path / _EXPORT_CHECK).read_text(encoding="utf-8"))
        if "weights_digest" in check:
            return str(check["weights_digest"])
    return digest_file(path / _EXPORTED_WEIGHTS)
