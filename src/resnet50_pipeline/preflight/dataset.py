"""The data set's folder: that it is there, laid out as ImageNet's, and holds the images that its lists begin with."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from resnet50_pipeline.exceptions import DatasetNotFoundError
from resnet50_pipeline.imagenet.layout import DatasetLayout, find_dataset
from resnet50_pipeline.imagenet.list_files import Split
from resnet50_pipeline.parameters import DatasetParameters
from resnet50_pipeline.preflight.findings import Finding
from resnet50_pipeline.preflight.plan import read_group

# Lines of each list whose images are looked for: enough to see that the lists belong to the folder.
_SAMPLED_LINES = 20


def require_dataset(parameters: Mapping[str, Any]) -> DatasetLayout:
    """Check that the folder of `parameters["dataset"]` is there and is laid out as ImageNet's.

    Raises:
        ParameterError: the group `dataset` breaks its rules.
        DatasetNotFoundError: with every missing part, the expected layout and the setting that names the folder.
    """
    dataset = read_group(parameters, "dataset", DatasetParameters)
    return find_dataset(dataset.root, dataset)


def check_dataset(dataset: DatasetParameters, *, makes_sample: bool) -> Finding:
    """`require_dataset`, and whether the first images of each list file are there."""
    needed = "train/, val/, lists or class folders"
    if makes_sample:
        return Finding("data set", "ok", "the sample, made by the run", "")
    try:
        layout = require_dataset({"dataset": dataset})
    except DatasetNotFoundError as error:
        what = str(error).partition(". Expected:")[0]
        return Finding("data set", "blocking", what, needed, "--params dataset.root=/path/to/imagenet")
    absent = [name for split in layout.lists for name in _find_absent(layout, split)]
    if absent:
        found = f"{len(absent)} of the first images of the lists are not there, as {absent[0]}"
        return Finding("data set", "blocking", found, needed, f"were the lists made for {layout.root}?")
    lists = ", ".join(path.name if path.is_file() else f"{split}/'s folders" for split, path in layout.lists.items())
    return Finding("data set", "ok", f"{layout.root}: {lists}", needed)


def _find_absent(layout: DatasetLayout, split: Split) -> list[str]:
    """Return the images of the first lines that are not there; whether the lines are right is for validation to say."""
    path = layout.lists[split]
    if split in layout.archives or not path.is_file():
        return []
    with path.open("rb") as file:
        lines = [line.decode(errors="replace") for line in itertools.islice(file, _SAMPLED_LINES)]
    names = [line.rsplit(maxsplit=1)[0].removeprefix(f"{split}/") for line in lines if len(line.split()) > 1]
    return [f"{split}/{name}" for name in names if not (layout.root / split / name).exists()]
