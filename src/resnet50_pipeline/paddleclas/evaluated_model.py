"""Finds the model to evaluate and its configuration."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from resnet50_pipeline.checkpoint_set import STATE, find_weights
from resnet50_pipeline.exceptions import CheckpointError
from resnet50_pipeline.imaging.operators import TransformOp
from resnet50_pipeline.recipe.document import TrainingConfig, read_training_config
from resnet50_pipeline.training_dir import best_checkpoint, config_path

EXPORTED = "inference.yml"


@dataclass(frozen=True)
class ModelToEvaluate:
    """A model on the local disk and the configuration needed to evaluate it.

    Attributes:
        path: checkpoint set, weights file, or folder of an exported model.
        config: network and preprocessing of the model.
        name: name of the model in results.
        is_best: whether the model is the best checkpoint of the current training run.
    """

    path: Path
    config: TrainingConfig
    name: str
    is_best: bool


def find_best_model(training_dir: Path) -> ModelToEvaluate:
    """Return the best checkpoint of a finished training run.

    Raises:
        CheckpointError: if the run has not finished, or its best checkpoint set is missing.
    """
    checkpoint = best_checkpoint(training_dir)
    config = read_training_config(config_path(training_dir))
    return ModelToEvaluate(checkpoint, config, str(checkpoint.relative_to(training_dir)), is_best=True)


def trained_list_digest(checkpoint: Path) -> str | None:
    """Return the digest of a checkpoint set's train list. PaddleClas' own checkpoints do not contain this digest."""
    state = checkpoint / STATE
    if not state.is_file():
        return None
    digest: str | None = json.loads(state.read_text(encoding="utf-8"))["recipe"].get("DataLoader.Train.list_digest")
    return digest


def find_model(path: Path, config: TrainingConfig, name: str) -> ModelToEvaluate:
    """Return the model at `path`, with its configuration.

    A checkpoint set uses the training configuration in its run's folder. An exported model includes its preprocessing
    and classes. A weights file has no configuration, so `config` is used.

    Args:
        path: checkpoint set, `.pdparams` or `.safetensors` file, or folder of an exported model.
        config: configuration from the parameters, for settings that the model does not include.
        name: name of the model in results.

    Raises:
        CheckpointError: if `path` does not contain a model.
    """
    if (path / EXPORTED).is_file():
        return ModelToEvaluate(path, _fit_to_exported(config, path), name, is_best=False)
    if find_weights(path) is None:
        raise CheckpointError(
            f"evaluation.model: {path} is not a model; specify a checkpoint set, a .pdparams or .safetensors file, the "
            f"folder of an exported model, or models:/name@champion"
        )
    own = config_path(path.absolute().parents[1]) if path.is_dir() else None
    if own is not None and own.is_file():
        config = read_training_config(own)
    return ModelToEvaluate(path, config, name, is_best=False)


def with_images(
    config: TrainingConfig, *, batch_size: int, list_file: Path, image_root: Path | None, shards: Path | None
) -> TrainingConfig:
    """Return a copy of `config` that evaluates the images in `list_file`."""
    split = config.DataLoader.Eval
    packed = None if shards is None else str(shards)
    where = {"cls_label_path": str(list_file), "shards": packed} | (
        {} if image_root is None else {"image_root": str(image_root)}
    )
    split = split.model_copy(
        update={
            "sampler": split.sampler.model_copy(update={"batch_size": batch_size}),
            "dataset": split.dataset.model_copy(update=where),
        }
    )
    return config.model_copy(update={"DataLoader": config.DataLoader.model_copy(update={"Eval": split})})


def _fit_to_exported(config: TrainingConfig, path: Path) -> TrainingConfig:
    content: Mapping[str, Any] = yaml.safe_load((path / EXPORTED).read_text(encoding="utf-8"))
    label_map: Mapping[str, Any] = json.loads((path / "label_map.json").read_text(encoding="utf-8"))
    operators: Sequence[Mapping[str, Any]] = content["PreProcess"]["transform_ops"]
    split = config.DataLoader.Eval
    dataset = split.dataset.model_copy(
        update={"transform_ops": tuple(TransformOp.model_validate(operator) for operator in operators)}
    )
    loaders = config.DataLoader.model_copy(update={"Eval": split.model_copy(update={"dataset": dataset})})
    arch = config.Arch.model_copy(update={"class_num": int(label_map["class_num"])})
    return config.model_copy(update={"DataLoader": loaders, "Arch": arch})
