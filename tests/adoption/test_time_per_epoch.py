"""`kedro adopt` estimates the time per epoch from a few training steps of the environment that it writes."""

from __future__ import annotations

from pathlib import Path

import pytest
from image_folders import write_image

from resnet50_pipeline.paddleclas.epoch_time import MeasuredSteps, estimate_epoch_seconds, measure_steps
from resnet50_pipeline.parameters import TrainingParameters
from resnet50_pipeline.trainer.probes.step_time import extrapolate, time_batches
from striped_dataset import build_training_parameters


class Machine:
    """A device with a simulated clock. A batch takes `overhead` seconds, plus `per_image` seconds for each image."""

    def __init__(self, overhead: float, per_image: float) -> None:
        self.overhead, self.per_image, self.now = overhead, per_image, 100.0
        self.sizes: list[int] = []

    def train(self, size: int) -> float:
        """Train on a batch."""
        seconds = self.overhead + self.per_image * size
        self.now += seconds
        self.sizes.append(size)
        return seconds


@pytest.mark.parametrize(
    ("overhead", "per_image", "batch_size", "largest"),
    [(0.02, 0.001, 64, 64), (0.2, 0.05, 8, 8), (0.2, 0.3, 64, 2), (0.0, 0.02, 256, 66), (9.0, 1.0, 8, 1)],
)
def test_batches_grow_while_there_is_time(overhead, per_image, batch_size, largest):
    """The probe runs for four seconds, or at least one batch of one image. Larger batches are extrapolated."""
    machine = Machine(overhead, per_image)
    times = time_batches(machine.train, batch_size, 4.0, lambda: machine.now)
    assert max(times) == largest
    assert machine.now - 100 <= max(4.0, overhead + per_image)
    found = extrapolate(times, batch_size)
    if largest > 1:
        assert found == pytest.approx(overhead + per_image * batch_size)
    else:
        assert found == pytest.approx((overhead + per_image) * batch_size)


def training_of(**changes: object) -> TrainingParameters:
    """Return parameters for two ranks with 8 images each."""
    training = build_training_parameters(Path("unused"), ranks=2, batch_size_per_rank=8)
    return training.model_copy(update=changes)


def test_reading_counts_unless_workers_are_faster():
    """Without workers, a rank alternates between reading and computing.

    With workers, the slower of the two determines the time.
    """
    measured = MeasuredSteps(batch_seconds=2.0, image_seconds=0.5, batches=3, batch_size=8)
    training = training_of()
    ranks = training.launch.ranks
    loader = training.loader
    for workers, per_batch in ((0, 2.0 + 8 * 0.5), (1, 4.0), (4, 2.0)):
        changed = training.model_copy(update={"loader": loader.model_copy(update={"num_workers": workers})})
        assert estimate_epoch_seconds(changed, measured, 800, 10) == pytest.approx(per_batch * 100 / ranks)
    balanced = training.model_copy(update={"loader": loader.model_copy(update={"images_per_class": 8})})
    assert estimate_epoch_seconds(balanced, measured, 800, 10) == pytest.approx((2.0 + 4.0) * 10 / ranks)


@pytest.fixture
def images(tmp_path) -> Path:
    """A folder of 10 images."""
    for number in range(10):
        write_image(tmp_path / "images" / f"{number}.png", number, (40, 36))
    return tmp_path / "images"


@pytest.mark.slow
def test_real_steps_are_measured(images, tmp_path, monkeypatch):
    """A process trains the network on batches of the configured size and writes nothing."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    before = {path: path.stat().st_mtime_ns for path in [images, *images.iterdir()]}
    measured = measure_steps(training_of(), 3, images, [f"{number}.png" for number in range(10)])
    assert isinstance(measured, MeasuredSteps), measured
    assert 0 < measured.image_seconds < measured.batch_seconds
    assert 1 <= measured.batch_size <= 8
    assert {path: path.stat().st_mtime_ns for path in [images, *images.iterdir()]} == before
    assert list(work.iterdir()) == []


@pytest.mark.slow
def test_a_missing_device_is_reported(images):
    """The reason names the missing device, or the images that cannot be read."""
    launch = training_of().launch.model_copy(update={"device": "iluvatar_gpu", "devices": (0,)})
    reason = measure_steps(training_of(launch=launch), 3, images, ["0.png"])
    assert isinstance(reason, str)
    assert "this machine has no iluvatar_gpu" in reason
    reason = measure_steps(training_of(), 3, images, ["gone.png"])
    assert isinstance(reason, str)
    assert "gone.png" in reason
