"""Progressive crop sizes follow FFCV's schedule."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from resnet50_pipeline.imaging.progressive import ProgressiveResize


def test_sizes_match_ffcv():
    """The sizes for rn50_40_epochs.yaml match get_resolution in train_imagenet.py, whose epochs start at 0."""
    progress = ProgressiveResize(initial_size=160, start_epoch=30, end_epoch=35)
    for epoch in range(40):
        interpolated = int(np.round(np.interp([epoch], [29, 34], [160, 192])[0] / 32)) * 32
        expected = 160 if epoch <= 29 else 192 if epoch >= 34 else interpolated
        assert progress.size_of(epoch + 1, 192) == expected


def test_end_must_be_after_the_start():
    """If the end epoch is not after the start epoch, the error contains both epochs."""
    with pytest.raises(ValidationError, match=r"end_epoch 5 .*start_epoch 5"):
        ProgressiveResize(initial_size=160, start_epoch=5, end_epoch=5)
