"""Real ranks produce the same weights from shards as from loose files, and different data is detected."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml

from packed_dataset import pack
from placed import PlacedDataset
from resnet50_pipeline.exceptions import CheckpointError, DatasetError, TrainingConfigError
from resnet50_pipeline.paddleclas.evaluated_model import find_best_model
from resnet50_pipeline.paddleclas.prediction import predict_list
from resnet50_pipeline.parameters import DatasetParameters
from resnet50_pipeline.training_dir import config_path
from short_training import assert_same_end, predict_best, stop_after, train
from striped_dataset import CLASSES

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def shards(tmp_path_factory, striped_dataset: Path) -> dict[str, Path]:
    """Shard sets of the striped images, keyed by mode."""
    folder = tmp_path_factory.mktemp("shards")
    for mode in ("original", "jpeg-256", "raw-256"):
        pack(striped_dataset, folder / mode, mode, CLASSES)
    return {path.name: path for path in folder.iterdir()}


@pytest.fixture(scope="module")
def loose(tmp_path_factory, striped_dataset: Path, make_training_parameters) -> Path:
    """A finished training run on loose files with two ranks."""
    training = make_training_parameters(tmp_path_factory.mktemp("loose") / "training", ranks=2)
    return train(training, PlacedDataset(root=striped_dataset, class_num=CLASSES))


@pytest.fixture
def no_images(striped_dataset: Path, tmp_path: Path) -> DatasetParameters:
    """A dataset folder that contains only the lists, so that opening an image file fails."""
    root = tmp_path / "lists"
    root.mkdir()
    for split in ("train", "val"):
        shutil.copy(striped_dataset / f"{split}_list.txt", root)
    return PlacedDataset(root=root, class_num=CLASSES)


@pytest.mark.parametrize(
    ("mode", "workers"), [("original", 2), pytest.param("raw-256", 0, marks=pytest.mark.exhaustive)]
)
def test_weights_equal_those_of_loose_files(loose, shards, no_images, training_parameters, mode, workers):  # noqa: PLR0917 - fixtures
    """Weights, losses and predictions from shards are bit-identical to those from loose files.

    No image files exist in this test.
    """
    training = training_parameters(ranks=2, loader={"num_workers": workers})
    folder = train(training, no_images, shards[mode])
    assert_same_end(loose, folder)
    alone = training.launch.model_copy(update={"devices": (0,)})
    predictions = predict_best(folder, no_images.root / "val_list.txt", alone, 4, shards[mode])
    own = predict_best(loose, no_images.root / "val_list.txt", training.launch, 4, shards["original"])
    pd.testing.assert_frame_equal(predictions, own)


def test_run_resumes_from_shards(loose, shards, no_images, training_parameters):
    """A run that started on loose files resumes bit for bit on shards that contain the original bytes."""
    training = training_parameters(ranks=2, output_dir=no_images.root.parent / "resumed" / "training", resume=True)
    shutil.copytree(loose, training.output_dir)
    stop_after(training.output_dir, epoch=1)
    train(training, no_images, shards["original"])
    assert_same_end(loose, training.output_dir)


def test_resume_with_recompressed_images_is_rejected(loose, shards, no_images, training_parameters):
    """A run cannot resume with recompressed images, and the error mentions the setting."""
    training = training_parameters(ranks=2, output_dir=no_images.root.parent / "resumed" / "training", resume=True)
    shutil.copytree(loose, training.output_dir)
    stop_after(training.output_dir, epoch=1)
    with pytest.raises(CheckpointError, match=r"DataLoader\.Train\.packed_pixels.*None.*'jpeg-256, quality 90, bil"):
        train(training, no_images, shards["jpeg-256"])


def test_truncated_shard_is_named(shards, no_images, training_parameters, tmp_path: Path):
    """Before the first step, a truncated shard raises an error that identifies the shard."""
    damaged = shutil.copytree(shards["original"], tmp_path / "damaged")
    shard = damaged / "val" / "0002-n00000002-001.tar"
    shard.write_bytes(shard.read_bytes()[:-1024])
    with pytest.raises(DatasetError, match=f"{shard} .* 6144 bytes"):
        train(training_parameters(), no_images, damaged)


def test_paddleclas_engine_rejects_shards(shards, dataset_parameters, training_parameters, monkeypatch):
    """PaddleClas' engine rejects shards before any process starts."""
    stub = Path(__file__).parents[1] / "stub_paddleclas"
    training = training_parameters(engine="paddleclas", paddleclas_home=stub)
    with pytest.raises(TrainingConfigError) as raised:
        train(training, dataset_parameters, shards["original"])
    assert "data_preparation.shards.mode: null" in str(raised.value)
    assert str(shards["original"]) in str(raised.value)


@pytest.mark.exhaustive
def test_evaluation_summary_reports_changed_pixels(loose, shards, no_images, training_parameters):
    """The evaluation's summary shows whether packing changed the pixels."""
    launch = training_parameters().launch

    def summary(folder: Path | None, root: Path) -> dict:
        model = find_best_model(loose)
        list_file = no_images.root / "val_list.txt"
        work = no_images.root.parent
        return predict_list(
            model, list_file, launch, batch_size_per_rank=8, work_parent=work, image_root=root, shards=folder
        )[1]

    own = Path(yaml.safe_load(config_path(loose).read_text())["DataLoader"]["Eval"]["dataset"]["image_root"])
    assert summary(None, own)["packed_pixels"] == ""
    original = summary(shards["original"], no_images.root)
    assert (original["packed_pixels"], original["packed_fidelity"]) == ("", "")
    packed = summary(shards["jpeg-256"], no_images.root)
    said = packed["packed_pixels"]
    assert re.fullmatch(r"\d+ val images compared: .*", packed["packed_fidelity"])
    assert said.startswith("jpeg-256, quality 90, bilinear, OpenCV ")
    assert json.loads((shards["jpeg-256"] / "shard_set.json").read_text())["packing"]["opencv"] in said
