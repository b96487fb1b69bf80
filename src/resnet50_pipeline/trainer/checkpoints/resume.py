"""Finds the step at which a run resumes. If the number of ranks has changed, the saved step is converted."""

from __future__ import annotations

from dataclasses import dataclass, replace

from resnet50_pipeline.checkpoint_set import TrainingState
from resnet50_pipeline.text import pluralize


@dataclass(frozen=True)
class ResumePoint:
    """The state to resume from. If the resume is not exact, `warnings` explains why."""

    state: TrainingState
    warnings: tuple[str, ...] = ()

    @property
    def is_exact(self) -> bool:
        """Whether the run continues exactly like an uninterrupted run. On a CPU, the weights are bit-identical."""
        return not self.warnings


def find_resume_point(saved: TrainingState, ranks: int, steps_per_epoch: int) -> ResumePoint:
    """Return the point at which a run with `ranks` ranks and `steps_per_epoch` steps per epoch resumes.

    If the number of ranks differs from the saved number, a step has a different number of images. The run then resumes
    at the same fraction of the epoch, rounded down. Some images may therefore be used twice, but none are skipped.
    """
    if (saved.ranks, saved.steps_per_epoch) == (ranks, steps_per_epoch):
        return ResumePoint(saved)
    step_in_epoch = saved.step_in_epoch * steps_per_epoch // saved.steps_per_epoch
    step = saved.epoch * steps_per_epoch + step_in_epoch
    state = replace(
        saved, step=step, step_in_epoch=step_in_epoch, steps_per_epoch=steps_per_epoch, ranks=ranks, meters={}
    )
    warning = (
        f"resuming with {pluralize(ranks, 'rank')} from a checkpoint set saved by {pluralize(saved.ranks, 'rank')}: "
        f"an epoch now has {pluralize(steps_per_epoch, 'step')} instead of {saved.steps_per_epoch}, so step "
        f"{saved.step} becomes step {step}. The resume is not exact: images are grouped into steps differently, some "
        f"images of epoch {saved.epoch + 1} may be used twice, the loss and accuracy of that epoch cover only its "
        "remaining steps, and BatchNorm's statistics differ. The learning rate does not change; to scale it with the "
        "number of images per step, set training.lr"
    )
    return ResumePoint(state, (warning,))
