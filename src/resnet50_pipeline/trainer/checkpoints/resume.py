"""Finds the step at which a run resumes. If the number of ranks has changed, the saved step is converted."""

from __future__ import annotations

from dataclasses import dataclass, replace

from resnet50_pipeline.checkpoint_set import TrainingState
from resnet50_pipeline.text import pluralize
from resnet50_pipeline.trainer.meters import share_meters


@dataclass(frozen=True)
class ResumePoint:
    """The state to resume from. If the resume is not exact, `warnings` explains why."""

    state: TrainingState
    warnings: tuple[str, ...] = ()

    @property
    def is_exact(self) -> bool:
        """Whether the run continues exactly like an uninterrupted run. On a CPU, the weights are bit-identical."""
        return not self.warnings


def find_resume_point(
    saved: TrainingState, ranks: int, steps_per_epoch: int, *, virtual: bool = False, deterministic: bool = True
) -> ResumePoint:
    """Return the point at which a run with `ranks` ranks and `steps_per_epoch` steps per epoch resumes.

    With virtual ranks, the steps do not depend on the number of ranks. If the reduction is also deterministic, neither
    do the weights.

    Without virtual ranks, a different number of ranks means a different number of images per step. The run then resumes
    at the same fraction of the epoch, rounded down, so some images may be used twice, but none are skipped.
    """
    if (saved.ranks, saved.steps_per_epoch) == (ranks, steps_per_epoch):
        return ResumePoint(saved)
    if virtual and saved.steps_per_epoch == steps_per_epoch:
        warning = (
            f"resuming with {pluralize(ranks, 'rank')} from a checkpoint set saved by "
            f"{pluralize(saved.ranks, 'rank')}: without the deterministic reduction, gradients are added in a "
            "different order, so the last bits of the weights differ"
        )
        state = replace(saved, ranks=ranks, meters=share_meters(saved.meters, ranks))
        return ResumePoint(state, () if deterministic else (warning,))
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
