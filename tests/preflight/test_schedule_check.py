"""A schedule whose last rates would never be used is reported before training."""

from __future__ import annotations

import pytest

from resnet50_pipeline.preflight.schedule import check_schedule


@pytest.mark.parametrize(
    ("epochs", "warmup_epoch", "status", "used"),
    [
        (120, 0, "ok", "after epochs [30, 60, 90]"),
        (91, 0, "ok", "after epochs [30, 60, 90]"),
        (90, 0, "warning", "[0.1, 0.01, 0.001]"),
        (91, 5, "warning", "[0.1, 0.01, 0.001]"),
        (20, 0, "warning", "[0.1]"),
    ],
)
def test_changes_after_the_last_epoch_are_a_warning(training_parameters, epochs, warmup_epoch, status, used):
    """The epochs of the changes count from the end of the warm-up. With 90 epochs, a change after 90 is too late."""
    lr = {"name": "Piecewise", "decay_epochs": [30, 60, 90], "values": [0.1, 0.01, 0.001, 0.0001]}
    training = training_parameters(epochs=epochs, lr={**lr, "warmup_epoch": warmup_epoch})
    finding = check_schedule(training)
    assert finding.status == status
    assert used in finding.found


def test_other_schedules_always_span_the_run(training_parameters):
    """Cosine decays to its end in any number of epochs."""
    assert check_schedule(training_parameters(epochs=1)).status == "ok"
