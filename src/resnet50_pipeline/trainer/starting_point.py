"""Loads the initial state of a run: a checkpoint set, pretrained weights, or random weights."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import paddle

from resnet50_pipeline.checkpoint_set import TrainingState, mark_best, read_state
from resnet50_pipeline.recipe.document import TrainingConfig
from resnet50_pipeline.trainer.checkpoints.compatibility import (
    describe_changed_reduction,
    describe_recipe,
    has_deterministic_reduction,
    require_same_recipe,
)
from resnet50_pipeline.trainer.checkpoints.resume import ResumePoint, find_resume_point
from resnet50_pipeline.trainer.ranks import Ranks
from resnet50_pipeline.trainer.step import Stepper

logger = logging.getLogger(__name__)


def set_starting_point(config: TrainingConfig, ranks: Ranks, stepper: Stepper, steps_per_epoch: int) -> ResumePoint:
    """Load `Global.checkpoints` or `Global.pretrained_model` if either is set. Return the initial state of the run.

    Raises:
        CheckpointError: if the checkpoint set or the weights are missing or damaged, or do not match the recipe.
    """
    if config.Global.checkpoints is not None:
        return _resume(config, ranks, stepper, steps_per_epoch)
    fresh = _initial_state(config, ranks, stepper, steps_per_epoch)
    if config.Global.pretrained_model is None:
        return ResumePoint(fresh)
    pretrained = stepper.start_from(Path(config.Global.pretrained_model))
    logger.info("%s: %d tensors loaded", pretrained.path, pretrained.loaded)
    warning = pretrained.describe(config.Arch.class_num)
    return ResumePoint(fresh, (warning,) if warning is not None else ())


def _initial_state(config: TrainingConfig, ranks: Ranks, stepper: Stepper, steps_per_epoch: int) -> TrainingState:
    return TrainingState(
        epoch=0,
        step=0,
        step_in_epoch=0,
        steps_per_epoch=steps_per_epoch,
        ranks=ranks.count,
        best_epoch=0,
        best_top1=-1.0,
        schedule=stepper.schedule.state_dict(),
        recipe=describe_recipe(config),
        paddle_version=paddle.__version__,
        deterministic_reduction=has_deterministic_reduction(config),
    )


def _resume(config: TrainingConfig, ranks: Ranks, stepper: Stepper, steps_per_epoch: int) -> ResumePoint:
    assert config.Global.checkpoints is not None, "checked by the caller"  # noqa: S101
    path = Path(config.Global.checkpoints)
    saved = read_state(path)
    require_same_recipe(path, saved.recipe, describe_recipe(config))
    point = find_resume_point(
        saved,
        ranks.count,
        steps_per_epoch,
        virtual=config.Global.virtual_ranks is not None,
        deterministic=config.Global.deterministic_reduction is not False,
    )
    if (warning := describe_changed_reduction(saved, config)) is not None and point.is_exact:
        point = replace(point, warnings=(warning,))
    if not point.is_exact:
        # The saved schedule counts steps of the previous size.
        point = replace(point, state=replace(point.state, schedule=stepper.schedule_after(point.state.step)))
    stepper.restore(path, point.state)
    if ranks.is_first and saved.best_epoch:
        # The run may have been killed after writing a new best set but before updating `best.json`.
        mark_best(Path(config.Global.output_dir), saved)
    reduction = has_deterministic_reduction(config)
    state = replace(point.state, paddle_version=paddle.__version__, deterministic_reduction=reduction)
    return replace(point, state=state)
