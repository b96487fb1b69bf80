"""Real ranks train on augmented, mixed and progressively resized images. Some images are unreadable."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from placed import PlacedDataset
from resnet50_pipeline.events import EpochEnd, WarningRaised, read_events
from resnet50_pipeline.exceptions import PipelineError
from resnet50_pipeline.parameters import DatasetParameters, TrainingParameters
from resnet50_pipeline.training_dir import events_path
from short_training import assert_same_end, stop_after, train

pytestmark = pytest.mark.slow

EVERYTHING = {
    "size": 32,
    "interpolation": "bicubic",
    "backend": "pil",
    "augment_ops": [
        {"ColorJitter": {"brightness": 0.2, "hue": 0.1}},
        {"TimmAutoAugment": {"config_str": "rand-m7-mstd0.5-inc1"}},
        {"TrivialAugmentWide": {}},
        {"RandomErasing": {"EPSILON": 0.5, "mode": "pixel"}},
    ],
    "batch_transform_ops": [
        {"OpSampler": {"MixupOperator": {"alpha": 0.2, "prob": 0.4}, "CutmixOperator": {"alpha": 1.0, "prob": 0.4}}}
    ],
    "progressive_resize": {"initial_size": 16, "start_epoch": 1, "end_epoch": 2},
}


@pytest.fixture(scope="module")
def torn(tmp_path_factory, striped_dataset: Path) -> DatasetParameters:
    """The striped folder, in which two training images were damaged after validation."""
    root = shutil.copytree(striped_dataset, tmp_path_factory.mktemp("torn") / "striped")
    paths = [root / line.split()[0] for line in (root / "train_list.txt").read_text().splitlines()]
    paths[7].write_bytes(paths[7].read_bytes()[:-20])
    paths[20].unlink()
    return PlacedDataset(root=root, class_num=3)


def test_resume_is_exact_with_all_augmentations(
    torn: DatasetParameters, make_training_parameters: Callable[..., TrainingParameters], tmp_path: Path
):
    """Resuming is exact with skipped, erased, mixed and progressively resized images."""
    whole = make_training_parameters(
        tmp_path / "whole",
        ranks=2,
        save_interval_steps=1,
        keep_checkpoints=99,
        train_transform=EVERYTHING,
        loader={"num_workers": 1, "max_skipped_images": 2},
    )
    train(whole, torn)
    events = read_events(events_path(whole.output_dir))
    assert [event.skipped_images for event in events if isinstance(event, EpochEnd)] == [2, 2]
    warnings = "".join(event.message for event in events if isinstance(event, WarningRaised))
    assert "epoch 1: 2 " in warnings
    assert "training.loader.max_skipped_images" in warnings

    stopped = whole.model_copy(update={"output_dir": tmp_path / "stopped", "resume": True})
    shutil.copytree(whole.output_dir, stopped.output_dir)
    stop_after(stopped.output_dir, epoch=1, step=5)
    train(stopped, torn)
    assert_same_end(whole.output_dir, stopped.output_dir)
    resumed = read_events(events_path(stopped.output_dir))
    assert [event.skipped_images for event in resumed if isinstance(event, EpochEnd)][-1] == 2


@pytest.mark.parametrize("allowed", [0, 1])
def test_too_many_unreadable_images_end_the_run(torn: DatasetParameters, training_parameters, allowed: int):
    """If more images are unreadable than allowed, the run ends with an error that identifies one of them."""
    training = training_parameters(epochs=1, loader={"num_workers": 0, "max_skipped_images": allowed})
    with pytest.raises(PipelineError) as failed:
        train(training, torn)
    message = str(failed.value)
    if allowed:
        assert "epoch 1: 2 " in message
        assert "training.loader.max_skipped_images allows only 1" in message
    else:
        assert "n00000000_7.JPEG" in message or "n00000001_8.JPEG" in message
