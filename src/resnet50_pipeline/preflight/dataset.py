"""Checks that the dataset folder has ImageNet's layout, and that the first images in its lists exist."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from resnet50_pipeline.exceptions import DatasetNotFoundError, ListFileError, ParameterError
from resnet50_pipeline.imagenet.layout import DatasetLayout, find_dataset
from resnet50_pipeline.imagenet.lists.files import Split
from resnet50_pipeline.imagenet.lists.patches import dropped_paths, read_patches
from resnet50_pipeline.parameters import DatasetParameters
from resnet50_pipeline.preflight.findings import Finding
from resnet50_pipeline.text import pluralize

# Number of images to check per list. A few images are enough to show whether the list belongs to this folder.
_SAMPLED_LINES = 20


def require_dataset(root: Path, dataset: DatasetParameters) -> DatasetLayout:
    """Check that the dataset folder exists and has ImageNet's layout.

    Raises:
        DatasetNotFoundError: if anything is missing. The message lists what is missing, the expected layout, and the
            parameter that sets the folder.
    """
    return find_dataset(root, dataset)


def require_sample(environment: str | None, params: Mapping[str, Any], *, is_sample: bool) -> None:
    """Check that sample_data, which replaces the entire dataset folder, will not overwrite the user's dataset.

    Args:
        environment: Kedro environment; None for the default environment.
        params: the values of `--params`.
        is_sample: whether the environment's dataset is the sample.

    Raises:
        ParameterError: if sample_data would overwrite another dataset.
    """
    given = params.get("dataset", {})
    if is_sample and "root" not in given:
        return
    where = f"--params dataset.root={given['root']}" if "root" in given else f"--env {environment}"
    raise ParameterError(
        f"sample_data would replace the dataset of {where} with the sample → skip the stage "
        "(`--pipelines data_validation,data_preparation,training,evaluation,model_registration`), "
        "or create an environment like conf/imagenet, in which `kedro run` starts with data_validation"
    )


def check_dataset(root: Path, dataset: DatasetParameters, *, makes_sample: bool) -> Finding:
    """Check the layout of the dataset, and that the first images of each list file exist."""
    needed = "train/, val/, lists or class folders"
    if makes_sample:
        return Finding("dataset", "ok", "the sample, which the run creates", "")
    try:
        layout = require_dataset(root, dataset)
    except DatasetNotFoundError as error:
        problem = str(error).partition(". Expected:")[0]
        return Finding("dataset", "blocking", problem, needed, "--params dataset.root=/path/to/imagenet")
    try:
        dropped = dropped_paths(read_patches(layout.patches))
    except ListFileError as error:
        return Finding("dataset", "blocking", str(error), "valid patches", "restore the patch")
    missing = [name for split in layout.lists for name in _find_missing_images(layout, split) if name not in dropped]
    if missing:
        found = f"{pluralize(len(missing), 'missing image')} in the first lines of the lists, such as {missing[0]}"
        return Finding("dataset", "blocking", found, needed, f"check that the lists belong to {layout.root}")
    lists = ", ".join(path.name if path.is_file() else f"{split}/'s folders" for split, path in layout.lists.items())
    return Finding("dataset", "ok", f"{layout.root}: {lists}", needed)


def _find_missing_images(layout: DatasetLayout, split: Split) -> list[str]:
    """Return the missing images among the first lines of a list. Validation reports malformed lines."""
    path = layout.lists[split]
    prefix = f"{split}/" if layout.classes is None else ""
    if split in layout.archives or not path.is_file():
        return []
    with path.open("rb") as file:
        lines = [line.decode(errors="replace") for line in itertools.islice(file, _SAMPLED_LINES)]
    names = [line.rsplit(maxsplit=1)[0].removeprefix(prefix) for line in lines if len(line.split()) > 1]
    return [f"{prefix}{name}" for name in names if not (layout.root / f"{prefix}{name}").exists()]
