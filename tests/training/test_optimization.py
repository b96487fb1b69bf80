"""What a recipe asks of the optimization reaches the ranks, and a stopped run of any of it goes on exactly."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from resnet50_pipeline.events import EvalEnd, TrainStep, WarningRaised, read_events
from resnet50_pipeline.exceptions import CheckpointError, TrainingConfigError
from resnet50_pipeline.paddleclas.export import export_inference_model
from resnet50_pipeline.parameters import ModelRegistrationParameters, TrainingParameters
from resnet50_pipeline.training_config import read_training_config
from resnet50_pipeline.training_dir import best_checkpoint, checkpoint_paths, events_path
from short_training import assert_same_end, last_weights, stop_after, train

pytestmark = pytest.mark.slow

Build = Callable[..., TrainingParameters]

HALF = {"use_amp": True, "dtype": "float16", "emulate_on_cpu": True, "scale_loss": 65536.0}
BRAIN = {"use_amp": True, "dtype": "bfloat16", "level": "O2", "emulate_on_cpu": True}
MOMENTUM = {"use_nesterov": True, "one_dim_param_no_weight_decay": True}
ADAMW = {"name": "AdamW", "weight_decay": 0.05, "one_dim_param_no_weight_decay": True}
LINEAR = {"name": "Linear", "learning_rate": 0.003, "warmup_epoch": 1}


def steps_of(folder: Path) -> list[TrainStep]:
    return [event for event in read_events(events_path(folder))[0] if isinstance(event, TrainStep)]


@pytest.mark.parametrize(
    "recipe",
    [
        {"amp": HALF, "optimizer": MOMENTUM, "label_smoothing": 0.1, "ema_decay": 0.9},
        {"amp": BRAIN, "optimizer": ADAMW, "lr": LINEAR, "update_freq": 2, "batch_size_per_rank": 3},
        {"arch": {"name": "ResNet18_vd", "data_format": "NHWC"}, "loss": {"name": "MultiLabelLoss"}, "to_static": True},
    ],
    ids=["float16-nesterov-ema", "bfloat16-adamw-accumulated", "compiled-nhwc-bce"],
)
def test_stopped_run_of_any_recipe_equals_the_unbroken_one(
    recipe: dict, dataset_parameters, training_parameters: Build, tmp_path: Path
):
    """Two ranks, stopped inside an epoch: weights, average, scale and losses are those of the unbroken run."""
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


@pytest.mark.parametrize("amp", [HALF, BRAIN], ids=["float16-o1", "bfloat16-o2"])
def test_training_learns_in_half_precision(amp: dict, dataset_parameters, training_parameters: Build):
    """Stripes of three kinds are told apart after eight epochs with every convolution rounded."""
    training = training_parameters(
        epochs=8,
        amp=amp,
        arch={"name": "ResNet18", "zero_init_residual": True, "batch_norm_momentum": 0.5},
        batch_size_per_rank=12,
        print_batch_step=3,
        train_transform={"size": 32, "scale": [0.9, 1.0], "ratio": [1.0, 1.0]},
    )
    folder = train(training, dataset_parameters)
    steps = steps_of(folder)
    assert steps[-1].loss < 0.5 * steps[0].loss
    evaluated = [event for event in read_events(events_path(folder))[0] if isinstance(event, EvalEnd)]
    assert max(event.top1 for event in evaluated) > 0.9


def test_evaluated_and_kept_is_the_average(dataset_parameters, training_parameters: Build):
    """A set has both the weights and their average, and the average is neither the weights nor the start."""
    folder = train(training_parameters(ema_decay=0.5), dataset_parameters)
    own, average = (load_file(best_checkpoint(folder) / name) for name in ("weights.safetensors", "ema.safetensors"))
    assert own.keys() == average.keys()
    assert not np.array_equal(own["fc.weight"], average["fc.weight"])


def test_fine_tuning_replaces_the_head_and_says_so(dataset_parameters, training_parameters: Build, tmp_path: Path):
    """A set of 3 classes starts a training of 4: a warning event counts what starts anew, and frozen layers are its."""
    source = train(training_parameters(output_dir=tmp_path / "source", epochs=1), dataset_parameters)
    tuned = training_parameters(
        output_dir=tmp_path / "tuned",
        epochs=1,
        seed=8,
        pretrained_model=best_checkpoint(source),
        arch={"name": "ResNet18", "freeze": ["stem", "blocks.0"]},
    )
    train(tuned, dataset_parameters.model_copy(update={"class_num": 4}))
    warnings = [e.message for e in read_events(events_path(tuned.output_dir))[0] if isinstance(e, WarningRaised)]
    assert len(warnings) == 1
    assert "head for 3 classes, and class_num is 4: 105 tensors were loaded, 2 start anew" in warnings[0]
    before, after = last_weights(source), last_weights(tuned.output_dir)
    held = [name for name in before if name.startswith(("stem.", "blocks.0."))]
    assert held
    for name in held:
        np.testing.assert_array_equal(after[name], before[name], err_msg=name)
    assert not np.array_equal(after["blocks.1.conv0.conv.weight"], before["blocks.1.conv0.conv.weight"])
    assert after["fc.bias"].shape == (4,)


def test_weights_that_are_not_there_are_an_error(dataset_parameters, training_parameters: Build, tmp_path: Path):
    """Nothing is downloaded: a name of a file that is not on this machine ends the run with what to do."""
    training = training_parameters(pretrained_model=tmp_path / "ResNet18_pretrained")
    with pytest.raises(CheckpointError, match=r"ResNet18_pretrained\.pdparams: there is no such file"):
        train(training, dataset_parameters)


def test_accumulation_that_no_epoch_has_batches_for_is_an_error(dataset_parameters, training_parameters: Build):
    """36 images in batches of 6 are 6 batches: a step of 7 is never full."""
    with pytest.raises(TrainingConfigError, match=r"update_freq: 7 .* only 6"):
        train(training_parameters(update_freq=7), dataset_parameters)


def test_compiled_training_is_the_training(dataset_parameters, training_parameters: Build, tmp_path: Path):
    """`to_static` changes no bit of the weights, on two ranks."""
    plain, compiled = (
        training_parameters(output_dir=tmp_path / str(to_static), ranks=2, to_static=to_static)
        for to_static in (False, True)
    )
    train(plain, dataset_parameters)
    train(compiled, dataset_parameters)
    assert read_training_config(compiled.output_dir.with_suffix(".yaml")).Global.to_static
    assert_same_end(plain.output_dir, compiled.output_dir)


def test_export_of_an_averaged_nhwc_network_takes_nchw(dataset_parameters, training_parameters: Build):
    """The inference model takes NCHW whatever the network computes in, and gives what the averaged weights give."""
    training = training_parameters(epochs=1, ema_decay=0.5, arch={"name": "ResNet18_vd", "data_format": "NHWC"})
    folder = train(training, dataset_parameters)
    label_map = {"class_num": 3, "classes": [{"id": i, "synset": f"n0000000{i}", "name": str(i)} for i in range(3)]}
    registration = ModelRegistrationParameters(model_name="test", export_check_images=5, export_tolerance=1e-4)
    staged = export_inference_model(folder, label_map, registration, training)
    assert json.loads((staged / "export_check.json").read_text())["passed"]
