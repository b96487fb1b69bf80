"""Compares a run's recipe with that of a checkpoint set. The run can resume only if the two recipes are the same.

The order in which gradients are added is not part of the recipe. If it differs, the run resumes with a warning.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from resnet50_pipeline.checkpoint_set import TrainingState
from resnet50_pipeline.exceptions import CheckpointError
from resnet50_pipeline.files import digest_file
from resnet50_pipeline.imagenet.shards.shard_set import describe_pixels
from resnet50_pipeline.recipe.data_loader import SplitConfig
from resnet50_pipeline.recipe.document import TrainingConfig


def describe_recipe(config: TrainingConfig) -> dict[str, Any]:
    """Return all settings that affect the trained weights, keyed by dotted name.

    List files are represented by their digests. Settings that may change on resume are excluded: paths, the intervals
    for printing, evaluation and saving, the device, and the numbers of ranks and workers. `resume.py` documents the
    effect of a different number of ranks.
    """
    recipe: dict[str, Any] = {
        "Global.epochs": config.Global.epochs,
        "Global.seed": config.Global.seed,
        "Global.update_freq": config.Global.update_freq,
        "Global.use_dali": config.Global.use_dali,
    }
    if config.Global.best_metric != "top1":  # sets written by earlier versions lack this key
        recipe["Global.best_metric"] = config.Global.best_metric
    if config.Global.virtual_ranks is not None:
        recipe["Global.virtual_ranks"] = config.Global.virtual_ranks
    for name in ("Arch", "Loss", "Optimizer", "AMP", "EMA"):
        section = getattr(config, name)
        recipe |= _flatten(section.model_dump(mode="json"), name) if section is not None else {name: None}
    for name in ("Train", "Eval"):
        split: SplitConfig = getattr(config.DataLoader, name)
        recipe[f"DataLoader.{name}.list_digest"] = digest_file(Path(split.dataset.cls_label_path))
        # Shards with the original files produce the same pixels as loose files. Only re-encoded images differ.
        recipe[f"DataLoader.{name}.packed_pixels"] = _packed_pixels(split)
        recipe[f"DataLoader.{name}.transform_ops"] = [op.as_mapping() for op in split.dataset.transform_ops]
    train = config.DataLoader.Train.dataset
    recipe["DataLoader.Train.batch_transform_ops"] = [op.model_dump(mode="json") for op in train.batch_transform_ops]
    progress = train.progressive_resize
    recipe["DataLoader.Train.progressive_resize"] = progress and progress.model_dump(mode="json")
    recipe |= _flatten(config.DataLoader.Train.sampler.model_dump(mode="json"), "DataLoader.Train.sampler")
    return recipe


def require_same_recipe(checkpoint: Path, saved: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Check that a run may resume from a checkpoint set.

    Args:
        checkpoint: path of the set, for the error message.
        saved: recipe of the set, from `describe_recipe`.
        now: recipe of the run.

    Raises:
        CheckpointError: if the recipes differ. The message lists all differences.
    """
    differing = [name for name in {**saved, **now} if saved.get(name) != now.get(name)]
    if differing:
        findings = "\n".join(
            f"  {name}: {saved.get(name)!r:.60} in the checkpoint, {now.get(name)!r:.60} in this run"
            for name in differing
        )
        raise CheckpointError(
            f"{checkpoint} was trained with a different recipe or different data:\n{findings}\n"
            f"Restore these values to resume, or start from scratch with training.resume=false"
        )


def has_deterministic_reduction(config: TrainingConfig) -> bool:
    """Return whether the order in which gradients are added depends only on the virtual ranks."""
    return config.Global.virtual_ranks is not None and config.Global.deterministic_reduction is not False


def describe_changed_reduction(saved: TrainingState, config: TrainingConfig) -> str | None:
    """Return a warning if gradients are no longer added in the same order as before the set, or None.

    The order affects only the last bits of the weights, so the run may resume.
    """
    now = has_deterministic_reduction(config)
    if saved.deterministic_reduction in (None, now):
        return None
    return (
        f"resuming {'with' if now else 'without'} the deterministic reduction from a checkpoint set saved "
        f"{'without' if now else 'with'} it: gradients are added in a different order, so the last bits of the weights "
        f"may differ from those of an uninterrupted run. To resume exactly, set training.deterministic_reduction="
        f"{'false' if now else 'null'}"
    )


def _packed_pixels(split: SplitConfig) -> str | None:
    return describe_pixels(Path(split.dataset.shards)) or None if split.dataset.shards else None


def _flatten(values: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}.{key}"
        flat |= _flatten(value, name) if isinstance(value, Mapping) else {name: value}
    return flat
