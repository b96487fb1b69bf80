"""The node of `sample_data`: a small data set that an installed package carries, as an ImageNet folder."""

from __future__ import annotations

from pathlib import Path

from resnet50_pipeline.files import staging_directory
from resnet50_pipeline.parameters import DatasetParameters, SampleDataParameters


def write_sample_dataset(sample_data: SampleDataParameters, dataset: DatasetParameters) -> Path:
    """Return a new folder that holds the sample, for the catalog to move to `dataset.root`."""
    from resnet50_pipeline.imagenet.sample import check_replaceable, write_sample

    check_replaceable(dataset.root)
    with staging_directory() as staged:
        write_sample(staged, **sample_data.model_dump())
    return staged
