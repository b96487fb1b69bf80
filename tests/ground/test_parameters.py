"""Every value under conf/ is checked before anything runs."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from resnet50_pipeline.parameters import (
    ArchParameters,
    EvalTransformParameters,
    LaunchParameters,
    LearningRateParameters,
    LossParameters,
    OptimizerParameters,
    SampleDataParameters,
    TrainingParameters,
    TrainTransformParameters,
)

TRAINING = {
    "output_dir": "out",
    "epochs": 3,
    "batch_size_per_rank": 8,
    "eval_batch_size_per_rank": 8,
    "launch": {"device": "cpu", "devices": [0]},
    "lr": {"name": "Cosine", "learning_rate": 0.1},
    "train_transform": {"size": 32},
    "eval_transform": {"resize_short": 32, "size": 32},
}
GPU = {"launch": {"device": "gpu", "devices": [0]}}


def test_mistyped_key_is_named():
    """A key that is not a parameter is refused by its path."""
    with pytest.raises(ValidationError, match=r"lr\.learning_rat\b"):
        TrainingParameters.model_validate({**TRAINING, "lr": {"name": "Cosine", "learning_rat": 0.1}})


@pytest.mark.parametrize(
    ("model", "values", "named"),
    [
        (LearningRateParameters, {"name": "Cosine"}, "needs learning_rate"),
        (LearningRateParameters, {"name": "Cosine", "learning_rate": 1, "values": [1]}, "neither values"),
        (LearningRateParameters, {"name": "Piecewise", "learning_rate": 1, "values": [1]}, "leave learning_rate out"),
        (LearningRateParameters, {"name": "Piecewise", "decay_epochs": [1], "values": [1]}, "one more value"),
        (LearningRateParameters, {"name": "Piecewise", "decay_epochs": [2, 1], "values": [1, 1, 1]}, "must rise"),
        (LaunchParameters, {"device": "gpu", "devices": [1, 1]}, "twice"),
        (LaunchParameters, {"device": "gpu", "devices": []}, "devices"),
        (EvalTransformParameters, {"resize_short": 32, "size": 40}, "larger than resize_short"),
        (SampleDataParameters, {"train_images_per_class": 400, "val_images_per_class": 101}, "501"),
        (TrainingParameters, {**TRAINING, "epochs": 0}, "epochs"),
        (TrainingParameters, {**TRAINING, "images_per_step": 16}, "1 ranks x batch_size_per_rank 8 x update_freq 1"),
        (TrainingParameters, {**TRAINING, "loader": {"use_dali": True}}, "NVIDIA's GPUs, and launch.device is cpu"),
        (
            TrainingParameters,
            {
                **TRAINING,
                "launch": {"device": "gpu", "devices": [0]},
                "loader": {"use_dali": True},
                "train_transform": {"size": 32, "augment_ops": [{"RandAugment": {}}]},
            },
            "asks for more",
        ),
        (TrainTransformParameters, {"size": 32, "augment_ops": [{"CropImage": {"size": 8}}]}, "not supported here"),
        (
            TrainTransformParameters,
            {"size": 32, "augment_ops": [{"RandomErasing": {}}, {"RandAugment": {}}]},
            "comes last",
        ),
        (
            TrainTransformParameters,
            {"size": 32, "progressive_resize": {"initial_size": 40, "start_epoch": 1, "end_epoch": 2}},
            "above size 32",
        ),
        (EvalTransformParameters, {"resize_short": 32, "size": 32, "interpolation": "random"}, "nothing at random"),
        (
            TrainingParameters,
            {**TRAINING, "lr": {"name": "Cosine", "learning_rate": 1, "warmup_epoch": 3}},
            "below epochs",
        ),
        (LearningRateParameters, {"name": "Linear", "learning_rate": 1, "eta_min": 0.1}, "eta_min is Cosine's"),
        (
            LearningRateParameters,
            {"name": "Cosine", "learning_rate": 1, "end_lr": 0.1},
            "end_lr and power are Linear's",
        ),
        (
            LearningRateParameters,
            {"name": "Linear", "learning_rate": 1, "by_epoch": True, "warmup_epoch": 1},
            "takes no warmup_epoch",
        ),
        (OptimizerParameters, {"name": "AdamW"}, "AdamW needs weight_decay"),
        (OptimizerParameters, {"name": "AdamW", "weight_decay": 0, "momentum": 0.9}, "does not take momentum"),
        (OptimizerParameters, {"name": "AdamW", "weight_decay": 0, "use_nesterov": True}, "use_nesterov"),
        (OptimizerParameters, {"name": "Momentum", "beta2": 0.99}, "Momentum does not take beta2"),
        (OptimizerParameters, {"name": "Momentum", "momentum": None}, "Momentum needs momentum"),
        (LossParameters, {"name": "CELoss", "target_threshold": 0.2}, "are MultiLabelLoss's"),
        (ArchParameters, {"lr_mult_list": [1, 1, 0, 1, 1]}, "use freeze"),
        (TrainingParameters, {**TRAINING, "amp": {"use_amp": True}}, "no half precision for launch.device cpu"),
        (TrainingParameters, {**TRAINING, **GPU, "amp": {"use_amp": True, "emulate_on_cpu": True}}, "is gpu"),
        (TrainingParameters, {**TRAINING, **GPU, "amp": {"use_amp": True, "level": "O2"}, "to_static": True}, "O1"),
        (
            TrainingParameters,
            {**TRAINING, "amp": {"use_amp": True, "emulate_on_cpu": True}, "to_static": True},
            "op by op",
        ),
    ],
)
def test_values_that_break_a_rule_are_named(model: type, values: dict, named: str):
    """Each rule says what it found."""
    with pytest.raises(ValidationError, match=named):
        model.model_validate(values)


def test_parameters_cannot_be_changed():
    """Nodes cannot change what other nodes will see."""
    parameters = TrainingParameters.model_validate(TRAINING)
    with pytest.raises(ValidationError, match="frozen"):
        parameters.epochs = 5
