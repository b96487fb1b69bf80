"""Parameter models reject invalid and incompatible values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from resnet50_pipeline.parameters import (
    DatasetParameters,
    EvaluationParameters,
    LaunchParameters,
    ModelRegistrationParameters,
    SampleDataParameters,
    TrainingParameters,
)

TRAINING = {
    "epochs": 3,
    "batch_size_per_rank": 8,
    "eval_batch_size_per_rank": 8,
    "launch": {"device": "cpu", "devices": [0]},
    "lr": {"name": "Cosine", "learning_rate": 0.1},
    "train_transform": {"size": 32},
    "eval_transform": {"resize_short": 32, "size": 32},
}
GPU = {"launch": {"device": "gpu", "devices": [0]}}


def errors_of(model: type, values: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the path and message of each error that the model raises."""
    with pytest.raises(ValidationError) as raised:
        model.model_validate(values)
    return [(".".join(map(str, error["loc"])), error["msg"]) for error in raised.value.errors()]


def test_mistyped_key_is_an_error_at_its_path():
    """The error about an unknown key shows its path in the file, without the name of the variant."""
    errors = errors_of(TrainingParameters, {**TRAINING, "lr": {"name": "Cosine", "learning_rat": 0.1}})
    assert {path for path, _ in errors} == {"lr.learning_rat", "lr.learning_rate"}


@pytest.mark.parametrize(
    ("group", "values", "path", "found"),
    [
        ("lr", {"name": "Cosine"}, "lr.learning_rate", ""),
        ("lr", {"learning_rate": 1}, "lr", "Piecewise, Cosine, Linear"),
        ("lr", {"name": "Step", "learning_rate": 1}, "lr", "'Step'"),
        ("lr", {"name": "Cosine", "learning_rate": 0}, "lr.learning_rate", "0"),
        ("lr", {"name": "Cosine", "learning_rate": 1, "values": [1]}, "lr", "values ([1])"),
        ("lr", {"name": "Piecewise", "learning_rate": 1, "values": [1]}, "lr", "learning_rate (1)"),
        ("lr", {"name": "Piecewise", "decay_epochs": [1], "values": [1]}, "lr", "set 2 values"),
        ("lr", {"name": "Piecewise", "decay_epochs": [2, 1], "values": [1, 1, 1]}, "lr", "[2, 1]"),
        ("lr", {"name": "Linear", "learning_rate": 1, "eta_min": 0.1}, "lr", "eta_min (0.1)"),
        ("lr", {"name": "Cosine", "learning_rate": 1, "end_lr": 0.1}, "lr", "end_lr (0.1)"),
        ("lr", {"name": "Linear", "learning_rate": 1, "by_epoch": True, "warmup_epoch": 1}, "lr", "warmup_epoch (1)"),
        ("optimizer", {"name": "AdamW"}, "optimizer.weight_decay", ""),
        ("optimizer", {"name": "AdamW", "weight_decay": 0, "momentum": 0.9}, "optimizer", "momentum (0.9)"),
        ("optimizer", {"name": "AdamW", "weight_decay": 0, "use_nesterov": True}, "optimizer", "use_nesterov (True)"),
        ("optimizer", {"name": "Momentum", "beta2": 0.99}, "optimizer", "beta2 (0.99)"),
        ("optimizer", {"name": "Momentum", "momentum": None}, "optimizer.momentum", ""),
        ("loss", {"name": "CELoss", "target_threshold": 0.2}, "loss", "target_threshold (0.2)"),
        ("arch", {"lr_mult_list": [1, 1, 0, 1, 1]}, "arch", "0.0"),
        ("arch", {"thaw_epoch": 2}, "arch", "freeze is empty"),
        ("eval_transform", {"resize_short": 32, "size": 40}, "eval_transform", "size 40"),
        ("eval_transform", {"resize_short": 32, "size": [32, 24]}, "eval_transform.size", "[32, 24]"),
        ("train_transform", {"size": [32, 24]}, "train_transform.size", "[32, 24]"),
        ("train_transform", {"size": 4}, "train_transform.size", "8"),
        ("eval_transform", {"resize_short": 32, "size": 32, "interpolation": "random"}, "eval_transform", "random"),
        (
            "train_transform",
            {"size": 32, "augment_ops": [{"CropImage": {"size": 8}}]},
            "train_transform.augment_ops.0",
            "CropImage",
        ),
        (
            "train_transform",
            {"size": 32, "augment_ops": [{"RandomErasing": {}}, {"RandAugment": {}}]},
            "train_transform",
            "RandomErasing, RandAugment",
        ),
        (
            "train_transform",
            {"size": 32, "progressive_resize": {"initial_size": 40, "start_epoch": 1, "end_epoch": 2}},
            "train_transform",
            "initial_size 40",
        ),
    ],
)
def test_invalid_values_in_training_are_errors(group: str, values: dict[str, Any], path: str, found: str):
    """Each error contains the path of the group or field and the invalid value."""
    errors = errors_of(TrainingParameters, {**TRAINING, group: values})
    assert [where for where, _ in errors] == [path]
    assert found in errors[0][1]


@pytest.mark.parametrize(
    ("model", "values", "found"),
    [
        (LaunchParameters, {"device": "gpu", "devices": [1, 1]}, "[1, 1]"),
        (LaunchParameters, {"device": "gpu", "devices": []}, "at least 1 item"),
        (LaunchParameters, {"device": "gpu", "devices": 3}, "set [3]"),
        (TrainingParameters, {**TRAINING, "lr": {"name": "Cosine", "learning_rate": 0.1, "eta_min": 1}}, "eta_min 1"),
        (TrainingParameters, {**TRAINING, "lr": {"name": "Linear", "learning_rate": 0.1, "end_lr": 1}}, "end_lr 1"),
        (
            TrainingParameters,
            {**TRAINING, "lr": {"name": "Cosine", "learning_rate": 0.1, "warmup_epoch": 1, "warmup_start_lr": 2}},
            "warmup_start_lr 2",
        ),
        (TrainingParameters, {**TRAINING, "lr": {"name": "Piecewise", "values": [-0.1]}}, "[-0.1]"),
        (TrainingParameters, {**TRAINING, "lr": {"name": "Piecewise", "values": [0.0]}}, "[0.0]"),
        (
            TrainingParameters,
            {**TRAINING, "lr": {"name": "Piecewise", "values": [0.1, 0.01], "decay_epochs": [0]}},
            "[0]",
        ),
        (LaunchParameters, {"device": "gpu", "devices": "0,1"}, "set [0,1]"),
        (LaunchParameters, {"device": "cpu", "devices": [0], "environment": {"OMP_NUM_THREADS": 4}}, '"4"'),
        (TrainingParameters, {**TRAINING, "seed": 2**64}, "18446744073709551615"),
        (TrainingParameters, {**TRAINING, "arch": {"freeze": ["stem"], "thaw_epoch": 4}}, "thaw_epoch 4"),
        (TrainingParameters, {**TRAINING, "pretrained_digest": "0" * 64}, "pretrained_model is null"),
        (
            TrainingParameters,
            {**TRAINING, "pretrained_digest": "0" * 64, "pretrained_model": "models:/probe/1"},
            "models:/probe/1",
        ),
        (TrainingParameters, {**TRAINING, "pretrained_digest": "0" * 63, "pretrained_model": "a"}, "pattern"),
        (TrainingParameters, {**TRAINING, "pretrained_model": "https://example.org/a.pdparams"}, "is a URL"),
        (EvaluationParameters, {"batch_size_per_rank": 1, "model": "s3://bucket/model"}, "is a URL"),
        (DatasetParameters, {"class_num": 1, "val_ground_truth": "http://example.org/labels.txt"}, "is a URL"),
        (SampleDataParameters, {"train_images_per_class": 400, "val_images_per_class": 101}, "501"),
        (TrainingParameters, {**TRAINING, "epochs": 0}, "1"),
        (TrainingParameters, {**TRAINING, "images_per_step": 12}, "1 rank x batch_size_per_rank 8 x update_freq 1"),
        (TrainingParameters, {**TRAINING, "loader": {"use_dali": True}}, "launch.device is cpu"),
        (
            TrainingParameters,
            {
                **TRAINING,
                **GPU,
                "loader": {"use_dali": True},
                "train_transform": {"size": 32, "augment_ops": [{"RandAugment": {}}]},
            },
            "RandAugment",
        ),
        (
            TrainingParameters,
            {**TRAINING, "lr": {"name": "Cosine", "learning_rate": 1, "warmup_epoch": 3}},
            "warmup_epoch 3",
        ),
        (TrainingParameters, {**TRAINING, "amp": {"use_amp": True}}, "launch.device is cpu"),
        (TrainingParameters, {**TRAINING, **GPU, "amp": {"use_amp": True, "level": "O2"}, "to_static": True}, "O2"),
        (TrainingParameters, {**TRAINING, "output_dir": "out"}, "Extra inputs"),
    ],
)
def test_incompatible_values_are_errors(model: type, values: dict[str, Any], found: str):
    """Each error contains the invalid value, or the incompatible values."""
    ((_, message),) = errors_of(model, values)
    assert found in message


def test_unset_keys_of_another_variant_are_ignored():
    """Merged parameters may contain keys of another schedule or optimizer if they are null, 0 or empty."""
    given = {
        "lr": {"name": "Linear", "learning_rate": 0.1, "eta_min": 0.0, "decay_epochs": [], "values": None},
        "optimizer": {"name": "AdamW", "weight_decay": 0.1, "momentum": None, "use_nesterov": False, "beta1": None},
    }
    training = TrainingParameters.model_validate({**TRAINING, **given})
    assert training.lr.name == "Linear"
    assert training.optimizer.model_dump() == {
        "no_weight_decay_name": None,
        "one_dim_param_no_weight_decay": False,
        "clip_norm": None,
        "name": "AdamW",
        "beta1": 0.9,
        "beta2": 0.999,
        "epsilon": 1e-8,
        "weight_decay": 0.1,
    }


def test_parameters_are_immutable():
    """A node cannot change the parameters of other nodes."""
    parameters = TrainingParameters.model_validate(TRAINING)
    with pytest.raises(ValidationError, match="epochs"):
        parameters.epochs = 5


@pytest.mark.parametrize(
    "name",
    [
        "digits",
        "my digits",
        "it's",
        "team/digits",
        "a:b",
        "a@b",
        " ",
        "",
        ".",
        "..",
        "...",
        "a..b",
        "x" * 256,
        "x" * 257,
    ],
)
def test_model_names_follow_mlflows_rules(name: str):
    """Names that MLflow would reject after training are rejected when the parameters are read."""
    from mlflow.exceptions import MlflowException
    from mlflow.utils.validation import _validate_model_name

    def is_refused(check: Callable[[], object], error: type[Exception]) -> bool:
        try:
            check()
        except error:
            return True
        return False

    # MLflow's column has 256 characters, and @ separates the alias in a reference.
    by_mlflow = is_refused(lambda: _validate_model_name(name), MlflowException) or len(name) > 256 or "@" in name
    assert is_refused(lambda: ModelRegistrationParameters(model_name=name), ValidationError) == by_mlflow
