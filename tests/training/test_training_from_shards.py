"""Real ranks that read from shards: the weights and the resume of loose files, and no other data unnoticed."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml

from packed_dataset import pack
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
    """Shard sets of the stripes, by mode."""
    folder = tmp_path_factory.mktemp("shards")
    for mode in ("original", "jpeg-256", "raw-256"):
        pack(striped_dataset, folder / mode, mode, CLASSES)
    return {path.name: path for path in folder.iterdir()}


@pytest.fixture(scope="module")
def loose(tmp_path_factory, striped_dataset: Path, make_training_parameters) -> Path:
    """A finished training of two ranks on loose files."""
    training = make_training_parameters(tmp_path_factory.mktemp("loose") / "training", ranks=2)
    return train(training, DatasetParameters(root=striped_dataset, class_num=CLASSES))


@pytest.fixture
def no_images(striped_dataset: Path, tmp_path: Path) -> DatasetParameters:
    """A dataset folder that has nothing but the lists: whoever opens a loose file in it fails."""
    root = tmp_path / "lists"
    root.mkdir()
    for split in ("train", "val"):
        shutil.copy(striped_dataset / f"{split}_list.txt", root)
    return DatasetParameters(root=root, class_num=CLASSES)


@pytest.mark.parametrize(("mode", "workers"), [("original", 2), ("raw-256", 0)])
def test_weights_are_those_of_loose_files(loose, shards, no_images, training_parameters, mode, workers):  # noqa: PLR0917 - fixtures
    """Bit for bit, by the same losses, and predictions too; raw pixels are the images' own where those are small.

    No loose file is there to be read.
    """
    training = training_parameters(ranks=2, loader={"num_workers": workers})
    folder = train(training, no_images, shards[mode])
    assert_same_end(loose, folder)
    alone = training.launch.model_copy(update={"devices": (0,)})
    predictions = predict_best(folder, no_images.root / "val_list.txt", alone, 4, shards[mode])
    own = predict_best(loose, no_images.root / "val_list.txt", training.launch, 4, shards["original"])
    pd.testing.assert_frame_equal(predictions, own)


def test_a_run_goes_on_from_shards_where_loose_files_were(loose, shards, no_images, training_parameters):
    """Packed bytes that are the images' own are the same recipe: stopped in an epoch, resumed from shards, same end."""
    training = training_parameters(ranks=2, output_dir=no_images.root.parent / "resumed" / "training", resume=True)
    shutil.copytree(loose, training.output_dir)
    stop_after(training.output_dir, epoch=1)
    train(training, no_images, shards["original"])
    assert_same_end(loose, training.output_dir)


def test_a_run_does_not_go_on_with_other_pixels(loose, shards, no_images, training_parameters):
    """A recompressed image is another image, and the message says which setting is meant."""
    training = training_parameters(ranks=2, output_dir=no_images.root.parent / "resumed" / "training", resume=True)
    shutil.copytree(loose, training.output_dir)
    stop_after(training.output_dir, epoch=1)
    with pytest.raises(
        CheckpointError, match=r"DataLoader\.Train\.packed_pixels: None there, 'jpeg-256, quality 90, bil"
    ):
        train(training, no_images, shards["jpeg-256"])


def test_a_shard_that_was_cut_off_ends_the_run_with_its_name(shards, no_images, training_parameters, tmp_path: Path):
    """Before the first step; the message of the rank is the run's."""
    damaged = shutil.copytree(shards["original"], tmp_path / "damaged")
    shard = damaged / "val" / "0002-n00000002-001.tar"
    shard.write_bytes(shard.read_bytes()[:-1024])
    with pytest.raises(DatasetError, match=f"{shard}: was cut off: it has .* bytes, and the shard set expects"):
        train(training_parameters(), no_images, damaged)


def test_the_engine_of_paddleclas_refuses_shards(shards, dataset_parameters, training_parameters, monkeypatch):
    """It opens loose files only: the parameter, the rule and the next step, before anything is started."""
    stub = Path(__file__).parents[1] / "stub_paddleclas"
    training = training_parameters(engine="paddleclas", paddleclas_home=stub)
    with pytest.raises(TrainingConfigError) as raised:
        train(training, dataset_parameters, shards["original"])
    assert "PaddleClas' dataset opens loose files only; set data_preparation.shards.mode: null" in str(raised.value)
    assert str(shards["original"]) in str(raised.value)


def test_an_evaluation_says_what_it_saw(loose, shards, no_images, training_parameters):
    """The summary names the packing where it gives other pixels than the images' own."""
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
