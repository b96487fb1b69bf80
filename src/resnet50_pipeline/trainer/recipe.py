"""What a training depends on: a resumed one must not differ in it from the one that it goes on with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from resnet50_pipeline.exceptions import CheckpointError
from resnet50_pipeline.files import digest_file
from resnet50_pipeline.imagenet.shard_set import describe_pixels
from resnet50_pipeline.training_config import SplitConfig, TrainingConfig


def describe_recipe(config: TrainingConfig) -> dict[str, Any]:
    """Return everything that the weights depend on, by dotted name; lists by the digest of their content.

    Where files lie, how often something is printed, evaluated or saved, the device, and how many ranks and loader
    processes there are is left out: it may change between two parts of a run (`resume.py` says what ranks change).
    """
    recipe: dict[str, Any] = {
        "Global.epochs": config.Global.epochs,
        "Global.seed": config.Global.seed,
        "Global.update_freq": config.Global.update_freq,
        "Global.use_dali": config.Global.use_dali,
    }
    for name in ("Arch", "Loss", "Optimizer", "AMP", "EMA"):
        section = getattr(config, name)
        recipe |= _flatten(section.model_dump(mode="json"), name) if section is not None else {name: None}
    for name in ("Train", "Eval"):
        split: SplitConfig = getattr(config.DataLoader, name)
        recipe[f"DataLoader.{name}.list_digest"] = digest_file(Path(split.dataset.cls_label_path))
        # Packed bytes that are the images' own change nothing.
        recipe[f"DataLoader.{name}.packed_pixels"] = _packed_pixels(split)
        recipe[f"DataLoader.{name}.transform_ops"] = [op.as_mapping() for op in split.dataset.transform_ops]
    train = config.DataLoader.Train.dataset
    recipe["DataLoader.Train.batch_transform_ops"] = [op.model_dump(mode="json") for op in train.batch_transform_ops]
    progress = train.progressive_resize
    recipe["DataLoader.Train.progressive_resize"] = progress and progress.model_dump(mode="json")
    recipe |= _flatten(config.DataLoader.Train.sampler.model_dump(mode="json"), "DataLoader.Train.sampler")
    return recipe


def require_same_recipe(checkpoint: Path, saved: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Check that a run may go on from a checkpoint set.

    Raises:
        CheckpointError: names every value that differs.
    """
    differing = [name for name in {**saved, **now} if saved.get(name) != now.get(name)]
    if differing:
        findings = "\n".join(
            f"  {name}: {saved.get(name)!r:.60} there, {now.get(name)!r:.60} now" for name in differing
        )
        raise CheckpointError(
            f"{checkpoint}: was trained with another recipe or other data:\n{findings}\n"
            f"set these back to resume, or start anew with training.resume=false"
        )


def _packed_pixels(split: SplitConfig) -> str | None:
    return describe_pixels(Path(split.dataset.shards)) or None if split.dataset.shards else None


def _flatten(values: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}.{key}"
        flat |= _flatten(value, name) if isinstance(value, Mapping) else {name: value}
    return flat
