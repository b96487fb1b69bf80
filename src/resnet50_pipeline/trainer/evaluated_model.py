"""What is evaluated: a checkpoint set, a file of weights (`.pdparams`, `.safetensors`), or an exported model."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paddle

from resnet50_pipeline.checkpoint_set import EMA, MANIFEST, WEIGHTS, read_state
from resnet50_pipeline.exceptions import CheckpointError, ExportError
from resnet50_pipeline.files import digest_file
from resnet50_pipeline.trainer.checkpoint import load_evaluated_weights
from resnet50_pipeline.trainer.network import build_network
from resnet50_pipeline.trainer.pretrained import load_pretrained
from resnet50_pipeline.training_config import TrainingConfig

EXPORTED = "inference"
_EXPORTED_WEIGHTS = f"{EXPORTED}.pdiparams"
_EXPORT_CHECK = "export_check.json"


@dataclass(frozen=True)
class EvaluatedModel:
    """A network, and where its weights come from.

    Attributes:
        network: float32 [N, 3, H, W] → logits [N, class_num].
        weights_digest: `sha256:…` of the weights' file; an exported model names that of the checkpoint it was made of.
        epoch: of the checkpoint set, None where it is not known.
        step: likewise.
    """

    network: paddle.nn.Layer
    weights_digest: str
    epoch: int | None
    step: int | None


def load_evaluated_model(config: TrainingConfig, path: Path) -> EvaluatedModel:
    """Return the model of a path: a folder with MANIFEST.json, a folder with inference.pdiparams, or a file.

    Raises:
        CheckpointError: the path is none of these, is damaged, or of another network.
        ExportError: Paddle cannot load the exported model.
    """
    if (path / _EXPORTED_WEIGHTS).is_file():
        return EvaluatedModel(_load_exported(path), _exported_digest(path), None, None)
    network = build_network(config.Arch)
    if path.is_dir():
        state = read_state(path)
        load_evaluated_weights(path, network)
        return EvaluatedModel(network, evaluated_weights_digest(path), state.epoch, state.step)
    loaded = load_pretrained(path, network)
    if loaded.anew:
        raise CheckpointError(f"{loaded.describe(config.Arch.class_num)}; a head that is not trained tells nothing")
    return EvaluatedModel(network, digest_file(loaded.path), None, None)


def evaluated_weights_digest(checkpoint: Path) -> str:
    """Return the digest of the weights of a set that are evaluated and exported: the averaged ones, where it has some.

    Args:
        checkpoint: a set that `read_state` has checked.
    """
    digests: dict[str, str] = json.loads((checkpoint / MANIFEST).read_text(encoding="utf-8"))
    return digests[EMA if EMA in digests else WEIGHTS]


class _Logits(paddle.nn.Layer):
    """Logarithms of an exported model's probabilities: logits whose softmax gives these probabilities again."""

    def __init__(self, exported: Any) -> None:
        super().__init__()
        self._exported = exported

    def forward(self, images: paddle.Tensor) -> paddle.Tensor:
        # The smallest normal float32 keeps the loss of a class that softmax gave nothing finite.
        return paddle.log(paddle.clip(self._exported(images), min=1.2e-38))


def _load_exported(path: Path) -> paddle.nn.Layer:
    try:
        return _Logits(paddle.jit.load(str(path / EXPORTED)))
    except (ValueError, RuntimeError, OSError) as error:
        raise ExportError(
            f"{path}: paddle {paddle.__version__} cannot load this exported model ({error}); was it made by another "
            f"version of Paddle? Its checkpoint set can be evaluated instead"
        ) from error


def _exported_digest(path: Path) -> str:
    if (path / _EXPORT_CHECK).is_file():
        check: dict[str, Any] = json.loads((path / _EXPORT_CHECK).read_text(encoding="utf-8"))
        if "weights_digest" in check:
            return str(check["weights_digest"])
    return digest_file(path / _EXPORTED_WEIGHTS)
