"""A flipped bit on one rank ends the run before a checkpoint set is written, and the error names the rank."""

from __future__ import annotations

import pytest

from placed import PlacedTraining
from resnet50_pipeline.events import CheckpointSaved, Finished, ReplicasDiffer, WarningRaised, read_events
from resnet50_pipeline.exceptions import ReplicasDifferError
from resnet50_pipeline.training_dir import checkpoint_paths, events_path
from short_training import run_disturbed

pytestmark = pytest.mark.slow

AVERAGED = {"ema_decay": 0.8, "update_freq": 2, "batch_size_per_rank": 2}


def events_of(training: PlacedTraining, kind: type) -> list:
    return [event for event in read_events(events_path(training.output_dir)) if isinstance(event, kind)]


@pytest.mark.parametrize(
    ("flip", "found", "recipe"),
    [
        ("weights:1:3", 4, {"ranks": 3, "replica_check_interval": 2}),
        pytest.param("gradients:0:2", 2, {"ranks": 3, "replica_check_interval": 1}, marks=pytest.mark.exhaustive),
        pytest.param("moments:3:3", 4, {"ranks": 4, "virtual_ranks": 4, **AVERAGED}, marks=pytest.mark.exhaustive),
    ],
)
def test_flipped_bit_names_the_rank(flip: str, found: int, recipe: dict, training_parameters, dataset_parameters):
    """The first comparison after the bit flip finds it, and no set contains it. An epoch has 2 steps."""
    training = training_parameters(**{"epochs": 4, "save_interval": 1, "keep_checkpoints": 99, **recipe})
    odd = int(flip.split(":")[1])
    with pytest.raises(
        ReplicasDifferError, match=rf"rank {odd} differs from the other ranks at step {found}, in .*(fc|stem)"
    ):
        run_disturbed(training, dataset_parameters, FLIP=flip)
    (event,) = events_of(training, ReplicasDiffer)
    assert (event.step, event.ranks, len(set(event.digests))) == (found, (odd,), 2)
    assert all(saved.step < found for saved in events_of(training, CheckpointSaved))
    assert all(
        "step" not in path.name or int(path.name[-10:]) < found for path in checkpoint_paths(training.output_dir)
    )


def test_repeating_the_step_names_one_of_two_ranks(training_parameters, dataset_parameters):
    """With two ranks, there is no majority. The resumed run repeats the step, and a warning names the faulty rank.

    The run has float16 loss scaling, averages and accumulated gradients. The resumed run ends without false alarms.
    """
    recipe = {**AVERAGED, "epochs": 2, "batch_size_per_rank": 3, "replica_check_interval": 1}
    training = training_parameters(ranks=2, **recipe)
    with pytest.raises(ReplicasDifferError, match=r"no majority of them agrees: rank 0 \| rank 1 at step 4"):
        run_disturbed(training, dataset_parameters, FLIP="moments:1:4", EMULATED_AMP="1")
    (newest,) = checkpoint_paths(training.output_dir)
    run_disturbed(training, dataset_parameters, newest, EMULATED_AMP="1")
    (warning,) = [event.message for event in events_of(training, WarningRaised)]
    assert "the ranks differed at step 4" in warning
    assert "the state of rank 0, so rank 1 made the error" in warning
    assert events_of(training, Finished)


@pytest.mark.exhaustive
def test_comparison_can_be_turned_off(training_parameters, dataset_parameters):
    """Without the comparison, the corrupted run continues to its end."""
    training = training_parameters(ranks=2, replica_check_interval=0, epochs=1)
    run_disturbed(training, dataset_parameters, FLIP="weights:1:1")
    assert not events_of(training, ReplicasDiffer)
    assert events_of(training, Finished)
