"""Every optimization setting of a recipe reaches the ranks, and runs that use it resume exactly."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from resnet50_pipeline.events import TrainStep, WarningRaised, read_events
from resnet50_pipeline.exceptions import CheckpointError, TrainingConfigError
from resnet50_pipeline.paddleclas.export import export_inference_model
from resnet50_pipeline.parameters import ModelRegistrationParameters, TrainingParameters
from resnet50_pipeline.recipe.document import read_training_config
from resnet50_pipeline.training_dir import best_checkpoint, checkpoint_paths, config_path, events_path
from short_training import assert_same_end, last_weights, stop_after, train

pytestmark = pytest.mark.slow

Build = Callable[..., TrainingParameters]

MOMENTUM = {"use_nesterov": True, "one_dim_param_no_weight_decay": True}
ADAMW = {"name": "AdamW", "weight_decay": 0.05, "one_dim_param_no_weight_decay": True}
LINEAR = {"name": "Linear", "learning_rate": 0.003, "warmup_epoch": 1}


def steps_of(folder: Path) -> list[TrainStep]:
    return [event for event in read_events(events_path(folder)) if isinstance(event, TrainStep)]


@pytest.mark.parametrize(
    "recipe",
    [
        {"optimizer": MOMENTUM, "label_smoothing": 0.1, "ema_decay": 0.9},
        pytest.param(
            {"optimizer": ADAMW, "lr": LINEAR, "update_freq": 2, "batch_size_per_rank": 3},
            marks=pytest.mark.exhaustive,
        ),
        {
            "loss": {"class_weights": [1, 2, 3]},
            "loader": {"num_workers": 2, "images_per_class": 12},
            "arch": {"name": "ResNet18", "freeze": ["stem", "blocks.[0-3]"], "thaw_epoch": 2},
        },
        pytest.param(
            {
                "arch": {"name": "ResNet18_vd", "data_format": "NHWC"},
                "loss": {"name": "MultiLabelLoss"},
                "to_static": True,
            },
            marks=pytest.mark.exhaustive,
        ),
    ],
    ids=["nesterov-ema", "adamw-accumulated", "weighted-balanced-thawing", "compiled-nhwc-bce"],
)
def test_resumed_run_of_any_recipe_equals_uninterrupted_run(
    recipe: dict, dataset_parameters, training_parameters: Build, tmp_path: Path
):
    """If two ranks stop mid-epoch and resume, weights, averages and losses equal those of an uninterrupted run."""
    values = {"ranks": 2, "epochs": 3, "save_interval_steps": 2, "keep_checkpoints": 9, **recipe}
    whole = training_parameters(output_dir=tmp_path / "whole", **values)
    train(whole, dataset_parameters)
    broken = training_parameters(output_dir=tmp_path / "broken", resume=True, **values)
    shutil.copytree(whole.output_dir, broken.output_dir)
    stop_after(broken.output_dir, epoch=1, step=4)
    train(broken, dataset_parameters)
    assert_same_end(whole.output_dir, broken.output_dir)
    ends = [checkpoint_paths(training.output_dir)[-1] for training in (whole, broken)]
    for name in ("optimizer.safetensors", "ema.safetensors"):
        if (ends[0] / name).exists():
            one, other = (load_file(end / name) for end in ends)
            for key, array in one.items():
                np.testing.assert_array_equal(array, other[key], err_msg=f"{name} {key}")


def test_averaged_weights_are_evaluated_and_saved(dataset_parameters, training_parameters: Build):
    """The averaged weights are evaluated, and a set contains both the weights and their average."""
    folder = train(training_parameters(ema_decay=0.5), dataset_parameters)
    own, average = (load_file(best_checkpoint(folder) / name) for name in ("weights.safetensors", "ema.safetensors"))
    assert own.keys() == average.keys()
    assert not np.array_equal(own["fc.weight"], average["fc.weight"])


def test_fine_tuning_replaces_and_reports_the_head(dataset_parameters, training_parameters: Build, tmp_path: Path):
    """Fine-tuning from 3 to 4 classes replaces the head, reports this, and leaves frozen layers unchanged."""
    source = train(training_parameters(output_dir=tmp_path / "source", epochs=1), dataset_parameters)
    tuned = training_parameters(
        output_dir=tmp_path / "tuned",
        epochs=1,
        seed=8,
        pretrained_model=best_checkpoint(source),
        arch={"name": "ResNet18", "freeze": ["stem", "blocks.0"]},
    )
    train(tuned, dataset_parameters.model_copy(update={"class_num": 4}))
    warnings = [e.message for e in read_events(events_path(tuned.output_dir)) if isinstance(e, WarningRaised)]
    assert len(warnings) == 1
    assert all(fact in warnings[0] for fact in ("3 classes", "class_num is 4", "105", "fc.bias, fc.weight"))
    before, after = last_weights(source), last_weights(tuned.output_dir)
    held = [name for name in before if name.startswith(("stem.", "blocks.0."))]
    assert held
    for name in held:
        np.testing.assert_array_equal(after[name], before[name], err_msg=name)
    assert not np.array_equal(after["blocks.1.conv0.conv.weight"], before["blocks.1.conv0.conv.weight"])
    assert after["fc.bias"].shape == (4,)


def test_weights_with_different_digest_are_an_error(dataset_parameters, training_parameters: Build, tmp_path: Path):
    """Weights with a different digest are rejected before the ranks start, and the previous run is kept."""
    training = training_parameters()
    kept = training.output_dir / "training_config.yaml"
    kept.parent.mkdir()
    kept.write_text("previous")
    weights = tmp_path / "weights.pdparams"
    weights.write_bytes(b"other weights")
    with pytest.raises(CheckpointError, match=r"weights\.pdparams: .*sha256:[0-9a-f]{64}, .*sha256:0{64}"):
        train(training_parameters(pretrained_model=weights, pretrained_digest="0" * 64), dataset_parameters)
    assert kept.read_text() == "previous"


def test_missing_weights_are_an_error(dataset_parameters, training_parameters: Build, tmp_path: Path):
    """Missing weights raise an error, and no download is attempted."""
    training = training_parameters(pretrained_model=tmp_path / "ResNet18_pretrained")
    with pytest.raises(CheckpointError, match="ResNet18_pretrained: "):
        train(training, dataset_parameters)


def test_accumulation_beyond_an_epoch_is_an_error(dataset_parameters, training_parameters: Build):
    """Accumulating 7 batches is rejected if an epoch has only 6."""
    with pytest.raises(TrainingConfigError, match=r"update_freq: .*\b7\b.*\b6\b"):
        train(training_parameters(update_freq=7), dataset_parameters)


def test_compiled_training_gives_same_weights(dataset_parameters, training_parameters: Build, tmp_path: Path):
    """With two ranks, `to_static` produces bit-identical weights, unless a feature map has 2 to 4 pixels."""
    size = {"epochs": 1, "train_transform": {"size": 72}, "eval_transform": {"resize_short": 72, "size": 72}}
    plain, compiled = (
        training_parameters(output_dir=tmp_path / str(to_static), ranks=2, to_static=to_static, **size)
        for to_static in (False, True)
    )
    train(plain, dataset_parameters)
    train(compiled, dataset_parameters)
    assert read_training_config(config_path(compiled.output_dir)).Global.to_static
    assert_same_end(plain.output_dir, compiled.output_dir)


@pytest.mark.exhaustive
def test_export_of_averaged_nhwc_network_takes_nchw(dataset_parameters, training_parameters: Build):
    """An exported NHWC network with averaged weights accepts NCHW images and returns the outputs of these weights."""
    training = training_parameters(epochs=1, ema_decay=0.5, arch={"name": "ResNet18_vd", "data_format": "NHWC"})
    folder = train(training, dataset_parameters)
    label_map = {"class_num": 3, "classes": [{"id": i, "synset": f"n0000000{i}", "name": str(i)} for i in range(3)]}
    registration = ModelRegistrationParameters(model_name="test", export_check_images=5, export_tolerance=1e-4)
    staged = export_inference_model(folder, label_map, registration, training)
    assert json.loads((staged / "export_check.json").read_text())["passed"]
