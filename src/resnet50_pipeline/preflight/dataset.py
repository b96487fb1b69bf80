"""Checks that the dataset folder has ImageNet's layout and contains the first images named in its lists."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from resnet50_pipeline.exceptions import DatasetNotFoundError, ParameterError
from resnet50_pipeline.imagenet.layout import DatasetLayout, find_dataset
from resnet50_pipeline.imagenet.lists.files import Split
from resnet50_pipeline.parameters import DatasetParameters
from resnet50_pipeline.preflight.findings import Finding
from resnet50_pipeline.text import pluralize

# Number of images to check per list. A few are enough to see whether the list belongs to the folder.
_SAMPLED_LINES = 20


def require_dataset(root: Path, dataset: DatasetParameters) -> DatasetLayout:
    """Check that the dataset folder exists and has ImageNet's layout.

    Raises:
        DatasetNotFoundError: if a part is missing. The message shows all missing parts, the expected layout, and the
            parameter that sets the folder.
    """
    return find_dataset(root, dataset)


def require_sample(environment: str | None, params: Mapping[str, Any], *, is_sample: bool) -> None:
    """Check that sample_data, which replaces the entire dataset folder, would not overwrite the user's dataset.

    Args:
        environment: Kedro environment; None for the default one.
        params: the values of `--params`.
        is_sample: whether the dataset of the environment is the sample.

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
    missing = [name for split in layout.lists for name in _find_missing_images(layout, split)]
    if missing:
        found = f"the first lines of the lists contain {pluralize(len(missing), 'missing image')}, such as {missing[0]}"
        return Finding("dataset", "blocking", found, needed, f"check that the lists belong to {layout.root}")
    lists = ", ".join(path.name if path.is_file() else f"{split}/'s folders" for split, path in layout.lists.items())
    return Finding("dataset", "ok", f"{layout.root}: {lists}", needed)


def _find_missing_images(layout: DatasetLayout, split: Split) -> list[str]:
    """Return missing images from the first lines of a list.

    Malformed lines are skipped, because validation reports them.
    """
    path = layout.lists[split]
    prefix = f"{split}/" if layout.classes is None else ""
    if split in layout.archives or not path.is_file():
        return []
    with path.open("rb") as file:
        lines = [line.decode(errors="replace") for line in itertools.islice(file, _SAMPLED_LINES)]
    names = [line.rsplit(maxsplit=1)[0].removeprefix(prefix) for line in lines if len(line.split()) > 1]
    return [f"{prefix}{name}" for name in names if not (layout.root / f"{prefix}{name}").exists()]
