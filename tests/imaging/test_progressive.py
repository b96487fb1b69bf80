"""Crops grow as FFCV's do."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from resnet50_pipeline.imaging.progressive import ProgressiveResize


def test_sizes_are_ffcvs():
    """For rn50_40_epochs.yaml the sizes are those of train_imagenet.py's get_resolution, whose epochs count from 0."""
    progress = ProgressiveResize(initial_size=160, start_epoch=30, end_epoch=35)
    for epoch in range(40):
        interpolated = int(np.round(np.interp([epoch], [29, 34], [160, 192])[0] / 32)) * 32
        expected = 160 if epoch <= 29 else 192 if epoch >= 34 else interpolated
        assert progress.size_of(epoch + 1, 192) == expected


def test_end_comes_after_the_start():
    """A growth that ends before it starts is refused."""
    with pytest.raises(ValidationError, match="must come after"):
        ProgressiveResize(initial_size=160, start_epoch=5, end_epoch=5)
