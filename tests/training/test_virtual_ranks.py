"""With virtual ranks, the weights do not depend on the number of ranks."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from placed import PlacedDataset, PlacedTraining
from resnet50_pipeline.events import EpochEnd, TrainStep, WarningRaised, read_events
from resnet50_pipeline.training_dir import checkpoint_paths, events_path
from short_training import stop_after, train

pytestmark = pytest.mark.slow

# Each of 4 virtual ranks has 9 of 36 images. In a step, it has 2 batches of 2 images, so an epoch has 2 steps.
RECIPE = {
    "virtual_ranks": 4,
    "batch_size_per_rank": 2,
    "update_freq": 2,
    "ema_decay": 0.8,
    "save_interval_steps": 1,
    "keep_checkpoints": 99,
    "train_transform": {"size": 32, "batch_transform_ops": [{"MixupOperator": {"alpha": 0.2}}]},
}


def digests(training: PlacedTraining) -> dict[str, str]:
    """Return the digests of the weights, the averaged weights and the optimizer's state in the newest set."""
    folder = checkpoint_paths(training.output_dir)[-1]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.safetensors")}


def gradient_norms(training: PlacedTraining) -> list[float | None]:
    """Return the gradient norms in the reports of a run."""
    events = read_events(events_path(training.output_dir))
    norms = [event.gradient_norm for event in events if isinstance(event, TrainStep)]
    assert norms
    assert None not in norms
    return norms


@pytest.fixture(scope="module")
def on_one_rank(tmp_path_factory, striped_dataset: Path, make_training_parameters) -> PlacedTraining:
    training = make_training_parameters(tmp_path_factory.mktemp("one") / "training", ranks=1, **RECIPE)
    train(training, PlacedDataset(root=striped_dataset, class_num=3))
    return training


@pytest.mark.parametrize("ranks", [2, 4])
def test_weights_do_not_depend_on_number_of_ranks(
    ranks: int, on_one_rank: PlacedTraining, training_parameters, dataset_parameters
):
    """One, two and four ranks produce bit-identical weights, averages, optimizer states and gradient norms."""
    training = training_parameters(ranks=ranks, **RECIPE)
    train(training, dataset_parameters)
    assert digests(training) == digests(on_one_rank)
    assert len(digests(training)) == 3
    assert gradient_norms(training) == gradient_norms(on_one_rank)


@pytest.mark.parametrize("ranks", [4, pytest.param(2, marks=pytest.mark.exhaustive)])
def test_resume_with_different_number_of_ranks_is_exact(
    ranks: int, on_one_rank: PlacedTraining, dataset_parameters, tmp_path: Path
):
    """A run that stops in the middle of an epoch and resumes on more ranks ends with the same weights and counts."""
    launch = on_one_rank.launch.model_copy(update={"devices": tuple(range(ranks))})
    resumed = on_one_rank.model_copy(update={"output_dir": tmp_path / "training", "launch": launch, "resume": True})
    shutil.copytree(on_one_rank.output_dir, resumed.output_dir)
    stop_after(resumed.output_dir, 1, 3)
    train(resumed, dataset_parameters)
    assert digests(resumed) == digests(on_one_rank)
    events = read_events(events_path(resumed.output_dir))
    assert not [event for event in events if isinstance(event, WarningRaised)]
    whole = [e for e in read_events(events_path(on_one_rank.output_dir)) if isinstance(e, EpochEnd)][-1]
    end = [event for event in events if isinstance(event, EpochEnd)][-1]
    assert (end.step, end.top1) == (whole.step, whole.top1)
    assert end.loss == pytest.approx(whole.loss, rel=1e-6)
    state = json.loads((checkpoint_paths(resumed.output_dir)[-1] / "state.json").read_text())
    assert state["ranks"] == ranks


@pytest.mark.exhaustive
def test_fast_reduction_differs_only_in_last_bits(on_one_rank: PlacedTraining, training_parameters, dataset_parameters):
    """Without the deterministic reduction, the images are the same, so the first epoch has nearly the same loss."""
    training = training_parameters(ranks=4, deterministic_reduction=False, **RECIPE)
    train(training, dataset_parameters)
    first_epochs = [
        next(event.loss for event in read_events(events_path(one.output_dir)) if isinstance(event, EpochEnd))
        for one in (training, on_one_rank)
    ]
    assert first_epochs[0] == pytest.approx(first_epochs[1], rel=1e-3)


@pytest.mark.exhaustive
def test_changed_reduction_is_not_called_exact(on_one_rank: PlacedTraining, dataset_parameters, tmp_path: Path):
    """Resuming with the other reduction warns that the last bits may differ. Later sets record the new reduction."""
    changes = {"output_dir": tmp_path / "training", "resume": True, "deterministic_reduction": False}
    resumed = on_one_rank.model_copy(update=changes)
    shutil.copytree(on_one_rank.output_dir, resumed.output_dir)
    stop_after(resumed.output_dir, 1, 3)
    before = checkpoint_paths(resumed.output_dir)[-1] / "state.json"
    train(resumed, dataset_parameters)
    (warning,) = [e.message for e in read_events(events_path(resumed.output_dir)) if isinstance(e, WarningRaised)]
    assert "resuming without the deterministic reduction" in warning
    assert "training.deterministic_reduction=null" in warning
    after = checkpoint_paths(resumed.output_dir)[-1] / "state.json"
    assert [json.loads(path.read_text())["deterministic_reduction"] for path in (before, after)] == [True, False]
