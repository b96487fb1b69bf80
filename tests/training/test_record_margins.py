"""With record_margins, training writes the mean margin of each training image."""

from __future__ import annotations

import hashlib
import shutil
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from placed import PlacedDataset, PlacedTraining, render_training_config
from resnet50_pipeline.events import WarningRaised, read_events
from resnet50_pipeline.training_dir import checkpoint_paths, events_path, margins_path
from short_training import stop_after, train

pytestmark = pytest.mark.slow

# Each of 2 virtual ranks has 18 of 36 images, and 2 batches of 3 images per step, so an epoch has 3 steps.
RECIPE = {
    "virtual_ranks": 2,
    "batch_size_per_rank": 3,
    "update_freq": 2,
    "label_smoothing": 0.1,
    "save_interval_steps": 1,
    "print_batch_step": 2,
    "keep_checkpoints": 99,
    "record_margins": True,
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory, striped_dataset: Path, make_training_parameters) -> PlacedTraining:
    """A finished training run of two epochs on one rank, with a set for every step."""
    training = make_training_parameters(tmp_path_factory.mktemp("whole") / "training", ranks=1, **RECIPE)
    train(training, PlacedDataset(root=striped_dataset, class_num=3))
    return training


def table_of(training: PlacedTraining) -> pd.DataFrame:
    return pd.read_parquet(margins_path(training.output_dir))


def digests(training: PlacedTraining) -> dict[str, str]:
    folder = checkpoint_paths(training.output_dir)[-1]
    files = [folder / "weights.safetensors", folder / "optimizer.safetensors"]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_weights_do_not_change(whole: PlacedTraining, dataset_parameters, tmp_path: Path):
    """The files of the weights and of the optimizer have the same SHA-256 digests with and without margins."""
    plain = whole.model_copy(update={"output_dir": tmp_path / "training", "record_margins": False})
    train(plain, dataset_parameters)
    assert digests(plain) == digests(whole)
    assert not margins_path(plain.output_dir).exists()
    assert not (checkpoint_paths(plain.output_dir)[-1] / "margins.safetensors").exists()


def test_table_has_one_row_per_line_of_the_train_list(whole: PlacedTraining, striped_dataset: Path):
    """Each image of the train list has a row in list order, and one pass per epoch."""
    table = table_of(whole)
    lines = [f"{path} {label}" for path, label in zip(table["path"], table["label"], strict=True)]
    assert lines == (striped_dataset / "train_list.txt").read_text().splitlines()
    assert table["passes"].tolist() == [2] * 36


def test_margins_are_those_of_the_forward_passes(
    training_parameters, dataset_parameters, monkeypatch: pytest.MonkeyPatch
):
    """The margins equal those computed with NumPy from the logits of every training step."""
    from resnet50_pipeline.files import write_text
    from resnet50_pipeline.paddleclas.margins import write_margins
    from resnet50_pipeline.trainer.heartbeat import Heartbeat
    from resnet50_pipeline.trainer.ranks import join_ranks
    from resnet50_pipeline.trainer.step import Stepper
    from resnet50_pipeline.trainer.training import TrainingRun

    seen, run = defaultdict(list), Stepper.run

    def recording_run(stepper, batch, *arguments: Any, **options: Any):
        loss, logits = run(stepper, batch, *arguments, **options)
        for row, label, values in zip(batch.index.numpy(), batch.labels.numpy(), logits.numpy(), strict=True):
            seen[int(row)].append(values[label] - np.delete(values, label).max())
        return loss, logits

    monkeypatch.setattr(Stepper, "run", recording_run)
    # 36 images in batches of 8, without the last 4: some images have fewer passes than others.
    training = training_parameters(batch_size_per_rank=8, record_margins=True, loader={"drop_last": True})
    config = render_training_config(training, dataset_parameters)
    write_text(training.output_dir / "training_config.yaml", config.to_yaml())
    TrainingRun(config, join_ranks("cpu"), Heartbeat(training.output_dir, 0)).execute()
    table = pd.read_parquet(write_margins(config))
    assert table["passes"].tolist() == [len(seen[row]) for row in range(36)]
    assert table["passes"].sum() == 2 * 32
    expected = [np.mean(seen[row], dtype=np.float64) if seen[row] else np.nan for row in range(36)]
    np.testing.assert_allclose(table["margin"], expected, rtol=1e-6)
    assert np.ptp(table["margin"].dropna()) > 0.01


def test_margins_do_not_depend_on_number_of_ranks(whole: PlacedTraining, training_parameters, dataset_parameters):
    """Two ranks that share the virtual ranks record the same margins as one rank."""
    training = training_parameters(ranks=2, **RECIPE)
    train(training, dataset_parameters)
    pd.testing.assert_frame_equal(table_of(training), table_of(whole), rtol=1e-12)


@pytest.mark.parametrize("place", [(0, 1), (1, None), (1, 5)])
def test_resumed_run_counts_no_image_twice(
    place: tuple[int, int | None], whole: PlacedTraining, dataset_parameters, tmp_path: Path
):
    """A run resumed at any step, on two ranks instead of one, writes the table of an uninterrupted run."""
    shutil.copytree(whole.output_dir, tmp_path / "training")
    launch = whole.launch.model_copy(update={"devices": (0, 1)})
    resumed = whole.model_copy(update={"output_dir": tmp_path / "training", "resume": True, "launch": launch})
    stop_after(resumed.output_dir, *place)
    expected = table_of(whole)
    margins_path(resumed.output_dir).unlink()
    train(resumed, dataset_parameters)
    pd.testing.assert_frame_equal(table_of(resumed), expected, rtol=1e-12)


def test_margins_start_late_with_a_warning(whole: PlacedTraining, dataset_parameters, tmp_path: Path):
    """A run that resumes from a set without margins records the remaining steps and says so."""
    training = whole.model_copy(update={"output_dir": tmp_path / "training", "record_margins": False})
    train(training, dataset_parameters)
    stop_after(training.output_dir, 1)
    train(training.model_copy(update={"resume": True, "record_margins": True}), dataset_parameters)
    assert table_of(training)["passes"].tolist() == [1] * 36
    (warning,) = [e.message for e in read_events(events_path(training.output_dir)) if isinstance(e, WarningRaised)]
    assert "cover only the steps after step 3" in warning


def test_mixed_images_are_rejected(training_parameters):
    """A mixed image has two labels, so the parameter is rejected together with mixup."""
    mixed = {"size": 32, "batch_transform_ops": [{"MixupOperator": {"alpha": 0.2}}]}
    with pytest.raises(ValidationError, match=r"record_margins is true, but train_transform\.batch_transform_ops"):
        training_parameters(record_margins=True, train_transform=mixed)
    assert not training_parameters(train_transform=mixed).record_margins
