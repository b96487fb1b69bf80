"""Node of the `sample_data` pipeline: write a small dataset in the ImageNet layout."""

from __future__ import annotations

from pathlib import Path

from resnet50_pipeline.files import staging_directory
from resnet50_pipeline.parameters import SampleDataParameters


def write_sample_dataset(dataset_folder: Path, sample_data: SampleDataParameters) -> Path:
    """Return a staged folder with the sample dataset, which the catalog moves to `dataset_folder`."""
    from resnet50_pipeline.imagenet.sample import require_replaceable, write_sample

    require_replaceable(dataset_folder)
    with staging_directory() as staged:
        write_sample(staged, **sample_data.model_dump())
    return staged
