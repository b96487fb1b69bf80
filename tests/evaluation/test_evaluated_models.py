"""A checkpoint set, a .pdparams file and an exported model with the same weights produce the same predictions."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from placed import PlacedDataset, render_training_config
from resnet50_pipeline.exceptions import CheckpointError, DatasetError
from resnet50_pipeline.imagenet.identities import ImageIdentities, save_identities
from resnet50_pipeline.imagenet.image_check import require_validated_images
from resnet50_pipeline.imagenet.layout import find_layout, read_lists
from resnet50_pipeline.imagenet.scan.scan import scan_dataset
from resnet50_pipeline.paddleclas.evaluated_model import find_best_model, find_model
from resnet50_pipeline.paddleclas.export import export_inference_model
from resnet50_pipeline.paddleclas.prediction import predict_list
from resnet50_pipeline.parameters import (
    EvaluationParameters,
    ModelRegistrationParameters,
    TrainingParameters,
)
from resnet50_pipeline.pipelines.evaluation.models import require_trained_data
from resnet50_pipeline.training_dir import images_path
from short_training import train

pytestmark = pytest.mark.slow

LABEL_MAP = {"class_num": 3, "classes": [{"id": i, "synset": f"n0000000{i}", "name": f"name {i}"} for i in range(3)]}


@pytest.fixture(scope="module")
def training(tmp_path_factory, striped_dataset: Path, make_training_parameters) -> TrainingParameters:
    """A finished training run with one rank."""
    parameters = make_training_parameters(tmp_path_factory.mktemp("trained") / "training")
    train(parameters, PlacedDataset(root=striped_dataset, class_num=3))
    return parameters


@pytest.fixture(scope="module")
def config(training: TrainingParameters, striped_dataset: Path):
    """The configuration from the parameters, as used for a model that this project did not train."""
    dataset = PlacedDataset(root=striped_dataset, class_num=3)
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
    """The predictions and summary for the best checkpoint."""
    return predict(find_best_model(training.output_dir), striped_dataset / "val_list.txt", training, striped_dataset)


def assert_same_rows(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    assert found["path"].tolist() == expected["path"].tolist()
    assert np.array_equal(np.stack(found["top5_ids"]), np.stack(expected["top5_ids"]))
    np.testing.assert_allclose(found["loss"], expected["loss"], rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(
        np.stack(found["top5_probabilities"]), np.stack(expected["top5_probabilities"]), atol=1e-5
    )


def test_the_summary_describes_the_best_checkpoint(best, training):
    """The summary identifies the checkpoint set and the weights and list digests, and marks the best checkpoint."""
    _, summary = best
    checkpoint = training.output_dir / summary["checkpoint"]
    digests = json.loads((checkpoint / "MANIFEST.json").read_text())
    assert summary["weights_digest"] == digests["weights.safetensors"]
    assert (summary["is_best_checkpoint"], summary["arch"]) == (True, "ResNet18")
    assert summary["list_digest"].startswith("sha256:")


def test_a_checkpoint_set_has_its_configuration(best, training, config, striped_dataset):
    """A checkpoint set is loaded into its own network, even if the parameters specify a different one."""
    other = config.model_copy(update={"Arch": config.Arch.model_copy(update={"name": "ResNet50"})})
    path = training.output_dir / best[1]["checkpoint"]
    model = find_model(path, other, str(path))
    assert model.config.Arch.name == "ResNet18"
    table, summary = predict(model, striped_dataset / "val_list.txt", training, striped_dataset)
    assert_same_rows(table, best[0])
    assert summary["is_best_checkpoint"] is False


def test_pdparams_give_the_same_predictions(best, training, config, striped_dataset, tmp_path):
    """A .pdparams file written by PaddleClas can be evaluated, but its epoch and step are unknown."""
    path = tmp_path / "ResNet18_pretrained.pdparams"
    write_pdparams(training.output_dir / best[1]["checkpoint"], path)
    model = find_model(path, config, str(path))
    table, summary = predict(model, striped_dataset / "val_list.txt", training, striped_dataset)
    assert_same_rows(table, best[0])
    assert (summary["epoch"], summary["step"]) == (None, None)
    assert summary["weights_digest"] == f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


def test_an_exported_model_gives_the_same_predictions(best, training, config, striped_dataset):
    """An exported model has its own preprocessing and classes, and the same weights digest as its checkpoint."""
    registration = ModelRegistrationParameters(model_name="probe", export_check_images=2)
    folder = export_inference_model(training.output_dir, LABEL_MAP, registration, training)
    other = config.model_copy(update={"Arch": config.Arch.model_copy(update={"class_num": 1000})})
    model = find_model(folder, other, "models:/probe/1")
    assert model.config.Arch.class_num == 3
    table, summary = predict(model, striped_dataset / "val_list.txt", training, striped_dataset)
    assert_same_rows(table, best[0])
    assert (summary["checkpoint"], summary["weights_digest"]) == ("models:/probe/1", best[1]["weights_digest"])


def test_another_list_may_use_another_image_root(best, training, striped_dataset, tmp_path):
    """A list of images in another folder has a different digest, which does not depend on the order of the lines."""
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


def test_a_missing_model_is_an_error(config, tmp_path):
    """If the model is missing, the error message includes its path."""
    with pytest.raises(CheckpointError, match="nowhere"):
        find_model(tmp_path / "nowhere", config, "nowhere")


@pytest.mark.parametrize("changes", [{"model": "models:/probe@champion"}, {"image_list": "new.txt"}])
def test_other_evaluations_need_an_output_dir(changes, tmp_path):
    """Results for another model or list cannot overwrite those from training."""
    with pytest.raises(ValidationError, match=r"evaluation\.output_dir"):
        EvaluationParameters(batch_size_per_rank=1, **changes)
    assert EvaluationParameters(batch_size_per_rank=1, output_dir=tmp_path, **changes).output_dir == tmp_path


def write_pdparams(checkpoint: Path, path: Path) -> None:
    """Write the weights of a set with `paddle.save`, in a subprocess because this process must not import Paddle."""
    program = (
        "import sys, paddle; from safetensors.numpy import load_file\n"
        "arrays = load_file(sys.argv[1])\n"
        "paddle.save({name: paddle.to_tensor(array) for name, array in arrays.items()}, sys.argv[2])\n"
    )
    command = [sys.executable, "-W", "ignore", "-c", program, str(checkpoint / "weights.safetensors"), str(path)]
    subprocess.run(command, check=True, timeout=120, capture_output=True)


def test_a_model_of_other_train_data_is_refused(training, striped_dataset, tmp_path):
    """If train images or labels changed and were validated again after training, the evaluation names them."""
    root = shutil.copytree(striped_dataset, tmp_path / "dataset")
    folder = shutil.copytree(training.output_dir, tmp_path / "training")
    manifest_file = tmp_path / "manifest.parquet"

    def validate() -> ImageIdentities:
        lists = {name: prefixed.entries for name, prefixed in read_lists(find_layout(root), 3).items()}
        scan_dataset(root, lists, 1, level="full", cache_dir=None).to_parquet(manifest_file, index=False)
        return require_validated_images(root, lists, manifest_file, shards=None, cache_dir=None, workers=1)

    save_identities(images_path(folder), validate())
    require_trained_data(folder, root / "train_list.txt", manifest_file, 3)
    image = next((root / "train").rglob("*.JPEG"))
    content = image.read_bytes()
    image.write_bytes(content + b"\0")
    validate()
    with pytest.raises(DatasetError, match=image.relative_to(root).as_posix()):
        require_trained_data(folder, root / "train_list.txt", manifest_file, 3)

    image.write_bytes(content)
    train_list = root / "train_list.txt"
    first, *rest = train_list.read_text().splitlines(keepends=True)
    train_list.write_text(first.replace(" 0", " 1") + "".join(rest))
    validate()
    with pytest.raises(DatasetError, match=str(train_list)):
        require_trained_data(folder, root / "train_list.txt", manifest_file, 3)
