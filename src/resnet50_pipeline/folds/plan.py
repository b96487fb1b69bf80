"""Configures a cross-validation, and writes the `kedro run --config` file of each fold."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resnet50_pipeline.child_runs.run_file import merge, write_run_file
from resnet50_pipeline.imagenet.layout import DEFAULT_LISTS
from resnet50_pipeline.imagenet.lists.patches import read_patches
from resnet50_pipeline.parameters import TrackingParameters, TrainingParameters
from resnet50_pipeline.tracking.runs import flatten_params
from resnet50_pipeline.training_dir import DATA_DIR, RUN_DIR

# Each fold has its own train and val lists, which its run validates first. The scan of the images is cached.
STAGES = ("data_validation", "data_preparation", "training", "evaluation")
# Settings that may change between folds, because they do not affect the result.
_FREE_SETTINGS = {
    *("resume", "print_batch_step", "save_interval", "save_interval_steps", "keep_checkpoints"),
    *("replica_check_interval", "checkpoint_mirror", "record_margins", "update_ratios", "profile_steps"),
}


@dataclass(frozen=True)
class FoldsPlan:
    """The configuration of a cross-validation.

    Attributes:
        lists: folder with the lists of each fold.
        patches: folder of the patches that are applied to the lists, or None.
        folder: folder for the results, with one folder per fold.
        recipe: name of the recipe, or None.
        training: `params:training`.
        tracking: `params:tracking`.
        project_path: folder of the project.
        environment: Kedro environment, or None for the default.
        conf_source: configuration folder, or None for `conf/`.
        given: the user's `--params` as a nested dict.
    """

    lists: tuple[Path, ...]
    patches: Path | None
    folder: Path
    recipe: str | None
    training: TrainingParameters
    tracking: TrackingParameters
    project_path: Path
    environment: str | None
    conf_source: str | None
    given: Mapping[str, Any]

    def fold_folder(self, number: int) -> Path:
        """Return the folder for a fold's results. Folds are numbered from 1."""
        return self.folder / f"fold-{number}"

    def write_run_file(self, number: int) -> Path:
        """Write the `--config` file of a fold's run, and return its path."""
        folder = self.fold_folder(number)
        own = {
            RUN_DIR: str(folder),
            DATA_DIR: str(folder),
            "dataset": {"lists": str(self.lists[number - 1])},
            # In a shared mirror, the runs would overwrite each other's sets.
            "training": {"resume": "auto", "checkpoint_mirror": None},
            # The champion may have been trained on this fold's val images, so a comparison would be unfair.
            "evaluation": {"output_dir": str(folder), "split": "val", "compare_with": None},
        }
        return write_run_file(
            folder / "run.yml",
            STAGES,
            merge(self.given, own),
            environment=self.environment,
            conf_source=self.conf_source,
        )

    def describe(self) -> dict[str, str]:
        """Return everything that affects the results: recipe, training parameters, list digests and patch ids."""
        training = self.training.model_dump(mode="json", exclude={"launch", *_FREE_SETTINGS})
        if not self.training.deterministic:
            # Cross-validations that were started before this parameter existed can continue.
            del training["deterministic"]
        digests = {}
        for number, lists in enumerate(self.lists, start=1):
            content = b"".join((lists / name).read_bytes() for name in DEFAULT_LISTS.values())
            digests[f"fold-{number}"] = hashlib.sha256(content).hexdigest()[:16]
        groups = {"training": {**training, "launch": {"ranks": self.training.launch.ranks}}, "lists": digests}
        patches = ", ".join(patch.id for patch in read_patches(self.patches))
        return {"recipe": str(self.recipe), **flatten_params(groups), **({"patches": patches} if patches else {})}
