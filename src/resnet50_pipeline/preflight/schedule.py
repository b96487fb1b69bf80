"""Checks that the learning rate schedule fits the length of the run."""

from __future__ import annotations

from resnet50_pipeline.parameters import TrainingParameters
from resnet50_pipeline.preflight.findings import Finding, judge
from resnet50_pipeline.recipe.optimization import Piecewise


def check_schedule(training: TrainingParameters) -> Finding:
    """Check that a Piecewise schedule reaches its last value before training ends.

    Cosine and Linear always span the run. With a Piecewise schedule and fewer epochs than in its recipe, the rate may
    never drop.
    """
    schedule, epochs = training.lr, training.epochs
    if not isinstance(schedule, Piecewise):
        return Finding("schedule", "ok", f"{schedule.name} over {epochs} epochs", "spans the run")
    # As in PaddleClas, decay_epochs are counted from the end of the warm-up.
    starts = [schedule.warmup_epoch + epoch for epoch in schedule.decay_epochs]
    late = [start for start in starts if start >= epochs]
    used = schedule.values[: len(schedule.values) - len(late)]
    return judge(
        not late,
        "warning",
        "schedule",
        found=f"training ends after {epochs} epochs and uses only {list(used)} of lr.values {list(schedule.values)}"
        if late
        else f"Piecewise with changes after epochs {starts}",
        needed=f"every change before epoch {epochs} (training.epochs)",
        remedy="scale training.lr.decay_epochs, or use Cosine, which always spans the run",
    )
