"""The table of margins follows the newest checkpoint set of a run."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

from placed import PlacedDataset, render_training_config
from resnet50_pipeline.exceptions import TrainingConfigError
from resnet50_pipeline.paddleclas.margins import write_margins
from resnet50_pipeline.training_dir import checkpoint_path, margins_path


@pytest.mark.parametrize("record_margins", [True, False])
def test_table_is_deleted_when_the_newest_set_has_no_margins(
    training_parameters, dataset_parameters: PlacedDataset, record_margins: bool, caplog: pytest.LogCaptureFixture
):
    """A table from before the last steps is deleted; it is kept if no step was trained since."""
    training = training_parameters(record_margins=record_margins)
    config = render_training_config(training, dataset_parameters)
    first, second = (checkpoint_path(training.output_dir, epoch) for epoch in (1, 2))
    first.mkdir(parents=True)
    save_file({"sums": np.full(36, 3.0), "passes": np.full(36, 2.0)}, first / "margins.safetensors")
    assert write_margins(config) == margins_path(training.output_dir)
    assert pd.read_parquet(margins_path(training.output_dir))["margin"].tolist() == [1.5] * 36
    second.mkdir()
    assert write_margins(config) is None
    assert not margins_path(training.output_dir).exists()
    assert (f"{second} was saved without training.record_margins" in caplog.text) is record_margins


def test_one_class_has_no_margins(training_parameters, dataset_parameters: PlacedDataset):
    """A margin needs two classes, so the configuration is rejected before the ranks start."""
    one = dataset_parameters.model_copy(update={"class_num": 1})
    assert render_training_config(training_parameters(), one).Arch.class_num == 1
    with pytest.raises(TrainingConfigError, match="record_margins is true, but there is only one class"):
        render_training_config(training_parameters(record_margins=True), one)
