"""A stepper without a process group."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from placed import render_training_config
from resnet50_pipeline.parameters import DatasetParameters
from steppers import Build


@pytest.fixture
def stepper(training_parameters, dataset_parameters: DatasetParameters) -> Build:
    """Return a function that builds the stepper of a single rank from recipe values."""
    from resnet50_pipeline.trainer.optimization.class_weights import compute_class_weights
    from resnet50_pipeline.trainer.ranks import Ranks
    from resnet50_pipeline.trainer.step import Stepper

    def build(**changes: Any) -> Stepper:
        amp = changes.pop("amp", None)  # the parameters reject AMP on a CPU
        config = render_training_config(
            training_parameters(**changes), dataset_parameters, Path("train_list.txt"), Path("val_list.txt")
        )
        config = config.model_copy(update={"AMP": amp})
        loss = config.Loss.Train[0].CELoss
        weights = None if loss is None else compute_class_weights(loss, np.ones(3, dtype=np.int64))
        return Stepper(config, Ranks(rank=0, count=1, device="cpu"), steps_per_epoch=4, class_weights=weights)

    return build
