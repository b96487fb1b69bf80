"""A profile contains the operators of the chosen steps, and does not affect training."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from placed import render_training_config
from resnet50_pipeline.trainer.ranks import Ranks
from resnet50_pipeline.trainer.run_data import RunData
from resnet50_pipeline.trainer.step import Stepper
from resnet50_pipeline.training_dir import profile_table_path, profile_trace_path
from steppers import Build, batch_of, weights_of

RESNET18 = {"name": "ResNet18"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The training folder of the stepper."""
    return tmp_path / "training"


def run_steps(run: Stepper, steps: int) -> None:
    run.start_epoch(1)
    for batches in range(steps * run.batches_per_step):
        run.run(batch_of(2), batches)


def test_profile_contains_the_chosen_steps(stepper: Build, folder: Path):
    """With profile_steps [2, 3], the trace has two steps with all convolutions, and the table ranks the operators."""
    profiled, plain = stepper(arch=RESNET18, profile_steps=[2, 3]), stepper(arch=RESNET18)
    run_steps(profiled, 4)
    run_steps(plain, 4)
    events = json.loads(profile_trace_path(folder).read_text())["traceEvents"]
    names = [event["name"].partition("[")[0] for event in events if "name" in event]
    convolutions = sum(name == "conv2d dygraph" for name in names)
    layers = 20 + 3  # ResNet18 has 20 convolutions and, in PaddleClas, 3 shortcuts
    assert 0 < convolutions <= 2 * layers
    assert convolutions % 2 == 0
    table = profile_table_path(folder).read_text()
    assert table.startswith("-")
    operators = [line.split()[0] for line in table.splitlines() if " dygraph " in line or "GradNode" in line]
    assert len(operators) > 10
    found = weights_of(profiled)
    for name, array in weights_of(plain).items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)
    assert not list(folder.glob("profile/.*"))


def test_run_that_ends_early_writes_its_profile(stepper: Build, folder: Path):
    """If the run ends before the last step to profile, the profile contains the steps until then."""
    run = stepper(arch=RESNET18, profile_steps=[2, 30], update_freq=2)
    run_steps(run, 2)
    assert not profile_trace_path(folder).exists()
    run.monitor.finish()
    assert profile_trace_path(folder).exists()
    assert "conv2d" in profile_table_path(folder).read_text()


def test_resumed_run_after_the_steps_writes_no_profile(stepper: Build, folder: Path):
    """A run that resumes after the steps to profile does not profile other steps."""
    run = stepper(arch=RESNET18, profile_steps=[1, 2])
    run.start_epoch(1)
    run.run(batch_of(2), 5)
    run.monitor.finish()
    assert not profile_trace_path(folder).exists()


@pytest.mark.parametrize(("first", "is_late"), [(24, False), (25, True)])
def test_steps_after_the_end_are_reported(training_parameters, dataset_parameters, first: int, is_late: bool):
    """If the run ends before the first step to profile, a warning says so at the start. An epoch has 12 steps."""
    steps = {"batch_size_per_rank": 3, "update_freq": 1, "epochs": 2, "profile_steps": [first, 99]}
    config = render_training_config(training_parameters(ranks=1, **steps), dataset_parameters)
    warnings = RunData(config, Ranks(rank=0, count=1, device="cpu")).warnings()
    assert [f"profile_steps is [{first}, 99], but training has only 24 steps" in one for one in warnings] == (
        [True] if is_late else []
    )


@pytest.mark.parametrize("steps", [[0, 3], [5, 4], [1], 3])
def test_invalid_steps_are_rejected(training_parameters, steps):
    """The first step is at least 1, and the last step is not before it."""
    with pytest.raises(ValueError, match="profile_steps"):
        training_parameters(profile_steps=steps)
