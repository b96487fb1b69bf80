"""Where a run goes on: exactly where its checkpoint set stands, or as near as another number of ranks allows."""

from __future__ import annotations

from dataclasses import dataclass, replace

from resnet50_pipeline.checkpoint_set import TrainingState


@dataclass(frozen=True)
class ResumePoint:
    """The state to go on from; `warnings` say what is no longer exact."""

    state: TrainingState
    warnings: tuple[str, ...] = ()

    @property
    def is_exact(self) -> bool:
        """Whether the rest will be what the unbroken run would have done, bit for bit on CPU."""
        return not self.warnings


def find_resume_point(saved: TrainingState, ranks: int, steps_per_epoch: int) -> ResumePoint:
    """Return where a run of `ranks` ranks, which takes `steps_per_epoch` steps, goes on from a set.

    With another number of ranks a step holds another number of images. The run then goes on at the same fraction of
    the epoch, rounded down, so that no image is left out; some are seen twice.
    """
    if (saved.ranks, saved.steps_per_epoch) == (ranks, steps_per_epoch):
        return ResumePoint(saved)
    step_in_epoch = saved.step_in_epoch * steps_per_epoch // saved.steps_per_epoch
    step = saved.epoch * steps_per_epoch + step_in_epoch
    state = replace(
        saved, step=step, step_in_epoch=step_in_epoch, steps_per_epoch=steps_per_epoch, ranks=ranks, meters={}
    )
    warning = (
        f"goes on with {ranks} ranks, the checkpoint set is of {saved.ranks}: an epoch has {steps_per_epoch} steps now "
        f"and had {saved.steps_per_epoch}, so this is step {step} (it was {saved.step}). No longer exact: which images "
        f"share a step, the rest of epoch {saved.epoch + 1}, whose images may be seen twice and whose figures begin "
        f"anew, and BatchNorm's statistics. The learning rate stays what the recipe says: scale training.lr with the "
        f"images of a step if it is to follow"
    )
    return ResumePoint(state, (warning,))
