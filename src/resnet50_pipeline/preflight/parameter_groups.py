"""Lists the parameter groups that the stages read, and the catalog entries that the checks look up."""

from __future__ import annotations

from collections.abc import Iterable

from resnet50_pipeline.exceptions import ParameterError
from resnet50_pipeline.text import suggest_name
from resnet50_pipeline.training_dir import DATA_DIR, RUN_DIR

DATASET_ROOT = "dataset_root"
TRAINING_DIR = "training_dir"
# Catalog entries whose paths the checks need.
CHECKED_PATHS = (DATASET_ROOT, "manifest", "train_list", "val_list", "shards", TRAINING_DIR)

PARAMETER_GROUPS = (
    "dataset",
    "sample_data",
    "data_validation",
    "data_preparation",
    "training",
    "evaluation",
    "model_registration",
    "tracking",
    "logs",
    "sweep",
)
# Top-level parameters that are not groups. The configuration loader reads the first one; the catalog
# uses all others.
_TOP_LEVEL_PARAMETERS = ("recipe", RUN_DIR, DATA_DIR)


def require_known_groups(groups: Iterable[str]) -> None:
    """Raise an error if there is a parameter group that no stage reads. Kedro would silently ignore such a group.

    Raises:
        ParameterError: if a group is unknown; the message suggests the closest known name.
    """
    known = (*PARAMETER_GROUPS, *_TOP_LEVEL_PARAMETERS)
    for group in groups:
        if group not in known:
            hint = suggest_name(group, known) or f"known: {', '.join(known)}"
            raise ParameterError(f"no stage reads the parameter group {group!r} → check the spelling; {hint}")
