"""A checkpoint set, its weights in a file, the model exported from it: each gives the same rows."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from resnet50_pipeline.exceptions import CheckpointError
from resnet50_pipeline.paddleclas.config import render_training_config
from resnet50_pipeline.paddleclas.evaluated_model import find_best_model, find_model
from resnet50_pipeline.paddleclas.export import export_inference_model
from resnet50_pipeline.paddleclas.prediction import predict_list
from resnet50_pipeline.parameters import (
    DatasetParameters,
    EvaluationParameters,
    ModelRegistrationParameters,
    TrainingParameters,
)
from short_training import train

pytestmark = pytest.mark.slow

LABEL_MAP = {"class_num": 3, "classes": [{"id": i, "synset": f"n0000000{i}", "name": f"name {i}"} for i in range(3)]}


@pytest.fixture(scope="module")
def training(tmp_path_factory, striped_dataset: Path, make_training_parameters) -> TrainingParameters:
    """A finished training of one rank."""
    parameters = make_training_parameters(tmp_path_factory.mktemp("trained") / "training")
    train(parameters, DatasetParameters(root=striped_dataset, class_num=3))
    return parameters


@pytest.fixture(scope="module")
def config(training: TrainingParameters, striped_dataset: Path):
    """What the parameters alone say, as for a model that was not trained here."""
    dataset = DatasetParameters(root=striped_dataset, class_num=3)
    val_list = striped_dataset / "val_list.txt"
    return render_training_config(training, dataset, val_list, val_list)


def predict(model, list_file: Path, training: TrainingParameters, image_root: Path) -> tuple[pd.DataFrame, dict]:
    return predict_list(
        model,
        list_file,
        training.launch,
        batch_size_per_rank=8,
        work_parent=training.output_dir.parent,
        image_root=image_root,
    )


@pytest.fixture(scope="module")
def best(training, striped_dataset) -> tuple[pd.DataFrame, dict]:
    """What the best checkpoint predicts."""
    return predict(find_best_model(training.output_dir), striped_dataset / "val_list.txt", training, striped_dataset)


def assert_same_rows(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    assert found["path"].tolist() == expected["path"].tolist()
    assert np.array_equal(np.stack(found["top5_ids"]), np.stack(expected["top5_ids"]))
    np.testing.assert_allclose(found["loss"], expected["loss"], rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(
        np.stack(found["top5_probabilities"]), np.stack(expected["top5_probabilities"]), atol=1e-5
    )


def test_the_best_checkpoint_names_itself(best, training):
    """The summary says which set, weights and list the rows are of, and that it is the training's best."""
    _, summary = best
    checkpoint = training.output_dir / summary["checkpoint"]
    digests = json.loads((checkpoint / "MANIFEST.json").read_text())
    assert summary["weights_digest"] == digests["weights.safetensors"]
    assert (summary["is_best_checkpoint"], summary["arch"]) == (True, "ResNet18")
    assert summary["list_digest"].startswith("sha256:")


def test_a_checkpoint_set_brings_its_own_configuration(best, training, config, striped_dataset):
    """Named by its folder, with parameters of another network, the set is read as it was trained."""
    other = config.model_copy(update={"Arch": config.Arch.model_copy(update={"name": "ResNet50"})})
    path = training.output_dir / best[1]["checkpoint"]
    model = find_model(path, other, str(path))
    assert model.config.Arch.name == "ResNet18"
    table, summary = predict(model, striped_dataset / "val_list.txt", training, striped_dataset)
    assert_same_rows(table, best[0])
    assert summary["is_best_checkpoint"] is False


def test_weights_of_paddleclas_give_the_same_rows(best, training, config, striped_dataset, tmp_path):
    """A .pdparams, as PaddleClas writes them, is evaluated without having been trained here; no epoch is known."""
    path = tmp_path / "ResNet18_pretrained.pdparams"
    write_pdparams(training.output_dir / best[1]["checkpoint"], path)
    model = find_model(path, config, str(path))
    table, summary = predict(model, striped_dataset / "val_list.txt", training, striped_dataset)
    assert_same_rows(table, best[0])
    assert (summary["epoch"], summary["step"]) == (None, None)
    assert summary["weights_digest"] == f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


def test_an_exported_model_gives_the_same_rows(best, training, config, striped_dataset):
    """With its own preprocessing and classes; the digest is that of the checkpoint that it was made of."""
    registration = ModelRegistrationParameters(model_name="probe", export_check_images=2)
    folder = export_inference_model(training.output_dir, LABEL_MAP, registration, training)
    other = config.model_copy(update={"Arch": config.Arch.model_copy(update={"class_num": 1000})})
    model = find_model(folder, other, "models:/probe/1")
    assert model.config.Arch.class_num == 3
    table, summary = predict(model, striped_dataset / "val_list.txt", training, striped_dataset)
    assert_same_rows(table, best[0])
    assert (summary["checkpoint"], summary["weights_digest"]) == ("models:/probe/1", best[1]["weights_digest"])


def test_another_list_may_lie_elsewhere(best, training, striped_dataset, tmp_path):
    """A list of other images, below another folder, has a digest of its own, whatever the order of its lines."""
    (tmp_path / "new").symlink_to(striped_dataset / "val")
    lines = [line.replace("val/", "new/") for line in (striped_dataset / "val_list.txt").read_text().splitlines(True)]
    digests = set()
    for name, chosen in (("a.txt", lines[:5]), ("b.txt", lines[4::-1])):
        (tmp_path / name).write_text("".join(chosen))
        table, summary = predict(find_best_model(training.output_dir), tmp_path / name, training, tmp_path)
        assert table["path"].tolist() == [line.split()[0] for line in chosen]
        digests.add(summary["list_digest"])
    assert len(digests) == 1
    assert digests != {best[1]["list_digest"]}


def test_a_model_that_is_not_there_is_named(config, tmp_path):
    """The message lists what the parameter may be."""
    with pytest.raises(CheckpointError, match=r"there is no .*nowhere; it is a checkpoint set, a .pdparams"):
        find_model(tmp_path / "nowhere", config, "nowhere")


@pytest.mark.parametrize("changes", [{"model": "models:/probe@champion"}, {"image_list": "new.txt"}])
def test_other_evaluations_need_a_folder_of_their_own(changes, tmp_path):
    """Results of another model or list never take the place of the training's own."""
    with pytest.raises(ValidationError, match=r"add evaluation.output_dir=FOLDER to --params"):
        EvaluationParameters(batch_size_per_rank=1, **changes)
    assert EvaluationParameters(batch_size_per_rank=1, output_dir=tmp_path, **changes).output_dir == tmp_path


def write_pdparams(checkpoint: Path, path: Path) -> None:
    """Write a set's weights as `paddle.save` does, in a process of its own: this one does not import Paddle."""
    program = (
        "import sys, paddle; from safetensors.numpy import load_file\n"
        "arrays = load_file(sys.argv[1])\n"
        "paddle.save({name: paddle.to_tensor(array) for name, array in arrays.items()}, sys.argv[2])\n"
    )
    command = [sys.executable, "-W", "ignore", "-c", program, str(checkpoint / "weights.safetensors"), str(path)]
    subprocess.run(command, check=True, timeout=120, capture_output=True)
