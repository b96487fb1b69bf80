"""Real ranks produce correct results, handle damaged sets and divergence, and evaluate with any number of ranks."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from placed import PlacedDataset, render_training_config
from resnet50_pipeline.events import CheckpointSaved, EvalEnd, Finished, TrainStep, read_events
from resnet50_pipeline.exceptions import (
    CheckpointError,
    ImageDecodeError,
    NonFiniteLossError,
    OutputDirectoryInUseError,
    ParameterError,
    PipelineError,
    RankFailedError,
)
from resnet50_pipeline.imagenet.identities import IDENTITY_DTYPE, ImageIdentities, save_identities
from resnet50_pipeline.imagenet.layout import find_layout, read_lists
from resnet50_pipeline.imagenet.scan.scan import scan_dataset
from resnet50_pipeline.imagenet.shards.build import write_no_shard_set
from resnet50_pipeline.paddleclas import train as engine
from resnet50_pipeline.paddleclas.evaluated_model import find_best_model
from resnet50_pipeline.paddleclas.export import export_inference_model
from resnet50_pipeline.paddleclas.history import training_history, training_summary
from resnet50_pipeline.paddleclas.launch.output_dir import claim_output_dir, replacing_previous_run
from resnet50_pipeline.paddleclas.prediction import predict_list
from resnet50_pipeline.parameters import (
    LaunchParameters,
    ModelRegistrationParameters,
    TrainingParameters,
)
from resnet50_pipeline.pipelines.training.nodes import train_network
from resnet50_pipeline.recipe.document import read_training_config
from resnet50_pipeline.training_dir import (
    best_checkpoint,
    checkpoint_path,
    checkpoint_paths,
    config_path,
    events_path,
    images_path,
)
from short_training import stop_after, train

pytestmark = pytest.mark.slow

Build = Callable[..., TrainingParameters]


def predict_best(training_dir: Path, list_file: Path, launch: LaunchParameters, batch_size: int):
    """Return the predictions of a run's best checkpoint for a list."""
    model = find_best_model(training_dir)
    return predict_list(model, list_file, launch, batch_size_per_rank=batch_size, work_parent=training_dir.parent)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, striped_dataset: Path, make_training_parameters) -> tuple[Path, Path]:
    """A finished training run on two ranks: (configuration, folder)."""
    folder = tmp_path_factory.mktemp("trained") / "training"
    training = make_training_parameters(folder, ranks=2, print_batch_step=2)
    train(training, PlacedDataset(root=striped_dataset, class_num=3))
    return config_path(folder), folder


def test_events_are_complete_and_ordered(trained: tuple[Path, Path]):
    """Events are complete and in order, and the history and the summary agree with them."""
    events = read_events(events_path(trained[1]))
    # Sets are written in the background, so the position of their events may vary.
    kinds = [event.event for event in events if not isinstance(event, CheckpointSaved)]
    epoch = ["train_step", "train_step", "epoch_end", "eval_end"]
    assert kinds == ["started", *epoch, *epoch, "finished"]
    assert [event.epoch for event in events if isinstance(event, CheckpointSaved)] == [1, 2]
    assert [event.images for event in events if isinstance(event, EvalEnd)] == [21, 21]
    history = training_history(events_path(trained[1]))
    steps = history[history["event"] == "train_step"]
    assert steps["step"].tolist() == [2, 3, 4, 6]
    assert (steps[["gradient_norm", "memory_bytes", "seconds_forward", "seconds_backward"]] > 0).all(axis=None)
    assert "update_ratio_stem" not in history  # off by default
    finished = events[-1]
    assert isinstance(finished, Finished)
    summary = training_summary(events_path(trained[1]), "ResNet18", "checkpoints/epoch-0002")
    assert summary["best_top1"] == finished.best_top1 == max(e.top1 for e in events if isinstance(e, EvalEnd))
    assert (summary["ranks"], summary["steps"], summary["resumed"]) == (2, 6, False)


def test_logs_contain_no_secrets(striped_dataset, dataset_parameters, training_parameters: Build, monkeypatch):
    """A secret variable is not in the environment that Paddle's launcher logs."""
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "canary-8d1f")
    folder = train(training_parameters(epochs=1), dataset_parameters)
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert any(path.name.startswith("envlog") for path in files)
    assert not [path for path in files if b"canary-8d1f" in path.read_bytes()]


def test_damaged_set_error_names_previous_set(dataset_parameters, training_parameters: Build):
    """If a bit in the newest set is flipped, the error identifies the file and the previous set."""
    training = training_parameters(epochs=2)
    folder = train(training, dataset_parameters)
    weights = checkpoint_paths(folder)[-1] / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"weights\.safetensors.*epoch-0001"):
        train(training.model_copy(update={"resume": True, "epochs": 3}), dataset_parameters)


def test_resume_without_a_set_is_rejected(dataset_parameters, training_parameters: Build):
    """A resume without a set is rejected before ranks start."""
    with pytest.raises(CheckpointError, match=r"training\.resume=false"):
        train(training_parameters(resume=True), dataset_parameters)


def test_divergence_ends_run_and_keeps_sets(dataset_parameters, training_parameters: Build):
    """If the loss is NaN or infinite, the run ends with an error that identifies the step, without saving the epoch."""
    training = training_parameters(epochs=3, lr={"name": "Cosine", "learning_rate": 1e30})
    with pytest.raises(NonFiniteLossError, match=r"loss is (nan|inf) at step \d"):
        train(training, dataset_parameters)
    assert checkpoint_paths(training.output_dir) == []


@pytest.mark.parametrize("workers", [0, 2])
def test_unreadable_image_ends_training(workers: int, dataset_parameters, training_parameters: Build, tmp_path: Path):
    """An unreadable training image ends the run with an error that identifies the image."""
    root = tmp_path / "dataset"
    shutil.copytree(dataset_parameters.root, root)
    (root / "train" / "n00000001" / "n00000001_3.JPEG").write_text("<html>404</html>")
    training = training_parameters(loader={"num_workers": workers})
    with pytest.raises(ImageDecodeError, match=r"^\S*n00000001_3\.JPEG: "):
        train(training, dataset_parameters.model_copy(update={"root": root}))


def test_unreadable_image_ends_evaluation(trained: tuple[Path, Path], tmp_path: Path):
    """A missing image ends the evaluation with an error that identifies the image."""
    gone = tmp_path / "val_list.txt"
    gone.write_text("val/n00000000/n00000000_0.JPEG 0\nval/n00000000/gone.JPEG 0\n")
    with pytest.raises(ImageDecodeError, match=r"gone\.JPEG"):
        predict_best(trained[1], gone, LaunchParameters(device="cpu", devices=(0, 1)), 4)


def test_second_run_in_the_same_folder_is_rejected(dataset_parameters, training_parameters: Build):
    """A second run in the same folder is rejected, and the error states the PID of the first."""
    training = training_parameters()
    with claim_output_dir(training.output_dir), pytest.raises(OutputDirectoryInUseError, match=str(os.getpid())):
        train(training, dataset_parameters)


def test_unfinished_runs_are_moved_aside(trained: tuple[Path, Path], tmp_path: Path):
    """A new run never deletes an unfinished run with checkpoints."""
    folder = tmp_path / "training"
    for number in (1, 2):
        shutil.copytree(trained[1], folder)
        if number == 1:
            stop_after(folder, epoch=1)
        else:  # finished, then resumed, and stopped
            events = events_path(folder)
            events.write_text(events.read_text() + events.read_text().splitlines(keepends=True)[0])
        with replacing_previous_run(folder):
            assert not folder.exists()
        assert checkpoint_paths(tmp_path / f"training.unfinished-{number}")


def test_finished_run_is_kept_until_successor_finishes(trained: tuple[Path, Path], tmp_path: Path):
    """A finished run is kept until a new run in the same folder has finished."""
    folder = tmp_path / "training"
    shutil.copytree(trained[1], folder)
    for message in ("no such device", "no such card"):
        with pytest.raises(RankFailedError), replacing_previous_run(folder):
            folder.mkdir()
            (folder / "log").write_text(message)
            raise RankFailedError(message)
        assert best_checkpoint(folder).is_dir()
        assert (tmp_path / "training.failed" / "log").read_text() == message
    with replacing_previous_run(folder):
        folder.mkdir()
    assert list(folder.iterdir()) == []
    assert [path.name for path in tmp_path.iterdir()] == ["training"]


def test_resume_with_different_recipe_or_data_is_rejected(
    dataset_parameters, training_parameters: Build, tmp_path: Path
):
    """A run with different epochs, batch size or lists cannot be resumed, and the error identifies the change."""
    training = training_parameters(epochs=1)
    train(training, dataset_parameters)
    other = training_parameters(epochs=2, batch_size_per_rank=7, resume=True)
    with pytest.raises(CheckpointError, match=r"Global\.epochs\D+1\b\D+2\b[\s\S]*batch_size\D+6\b\D+7\b"):
        train(other, dataset_parameters)
    root = tmp_path / "fewer"
    shutil.copytree(dataset_parameters.root, root)
    lines = (root / "train_list.txt").read_text().splitlines(keepends=True)
    (root / "train_list.txt").write_text("".join(lines[1:]))
    with pytest.raises(CheckpointError, match=r"DataLoader\.Train\.list_digest"):
        train(training.model_copy(update={"resume": True}), dataset_parameters.model_copy(update={"root": root}))


def test_resume_writes_missing_best_json(dataset_parameters, training_parameters: Build):
    """If a run is killed after saving the best set but before writing best.json, the resumed run writes best.json."""
    training = training_parameters(epochs=2)
    folder = train(training, dataset_parameters)
    best = json.loads((folder / "best.json").read_text())
    exported = (folder / "best.pdparams").read_bytes()
    (folder / "best.json").write_text(json.dumps({**best, "checkpoint": "checkpoints/epoch-0000"}))
    (folder / "best.pdparams").write_bytes(b"of the set before")
    train(training.model_copy(update={"resume": True}), dataset_parameters)
    assert best_checkpoint(folder) == folder / best["checkpoint"]
    assert (folder / "best.pdparams").read_bytes() == exported


def test_unfinished_training_is_not_evaluated(trained: tuple[Path, Path], striped_dataset: Path, tmp_path: Path):
    """A killed run has no best checkpoint, even if an earlier run in the folder finished."""
    folder = tmp_path / "training"
    shutil.copytree(trained[1], folder)
    stop_after(folder, epoch=1)
    with pytest.raises(CheckpointError, match=r"training\.resume="):
        predict_best(folder, striped_dataset / "val_list.txt", LaunchParameters(device="cpu", devices=(0,)), 4)


@pytest.mark.parametrize("device", ["gpu", "gpuu"])
def test_unsupported_device_is_an_error(device: str, dataset_parameters, training_parameters: Build):
    """A device that this Paddle does not support is an error."""
    launch = training_parameters().launch.model_copy(update={"device": device})
    with pytest.raises(PipelineError):
        train(training_parameters(launch=launch.model_dump()), dataset_parameters)


def test_folder_with_other_files_is_rejected(dataset_parameters, training_parameters: Build, tmp_path: Path):
    """A run rejects a folder that contains other files, and keeps the files."""
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("years of work")
    with pytest.raises(ParameterError, match="thesis"):
        train(training_parameters(output_dir=tmp_path / "thesis"), dataset_parameters)
    assert (tmp_path / "thesis" / "chapter1.tex").exists()


def test_predictions_do_not_depend_on_ranks_or_batches(trained: tuple[Path, Path], striped_dataset: Path):
    """One, two and three ranks produce the same predictions for 20 images, in list order."""
    _, folder = trained
    short = folder.parent / "short_list.txt"
    lines = (striped_dataset / "val_list.txt").read_text().splitlines(keepends=True)[1:]
    short.write_text("".join(lines))
    tables = []
    for ranks, batch in ((1, 20), (2, 3), (3, 4)):
        launch = LaunchParameters(device="cpu", devices=tuple(range(ranks)))
        table, summary = predict_best(folder, short, launch, batch)
        assert summary["images"] == 20
        assert summary["ranks"] == ranks
        tables.append(table)
    assert [f"{row.path} {row.label}\n" for row in tables[0].itertuples()] == lines
    for table in tables[1:]:
        assert table["path"].tolist() == tables[0]["path"].tolist()
        assert np.array_equal(np.stack(table["top5_ids"]), np.stack(tables[0]["top5_ids"]))
        np.testing.assert_allclose(table["loss"], tables[0]["loss"], rtol=1e-4, atol=1e-6)
    assert not list(folder.parent.glob(".evaluation-*"))


def test_predictions_agree_with_reported_top1(trained: tuple[Path, Path], striped_dataset: Path):
    """The best set's predictions have the top-1 accuracy that training reported."""
    _, folder = trained
    table, _ = predict_best(folder, striped_dataset / "val_list.txt", LaunchParameters(device="cpu", devices=(0,)), 5)
    top1 = np.mean(np.stack(table["top5_ids"])[:, 0] == table["label"])
    best = json.loads((folder / "best.json").read_text())
    assert top1 == pytest.approx(best["top1"])


def test_exported_model_agrees_with_checkpoint(trained: tuple[Path, Path], training_parameters: Build):
    """The exported model has the checkpoint's probabilities and includes PaddleClas' inference.yml."""
    _, folder = trained
    label_map = {
        "class_num": 3,
        "classes": [{"id": i, "synset": f"n0000000{i}", "name": f"stripes {i}"} for i in range(3)],
    }
    registration = ModelRegistrationParameters(model_name="test", export_check_images=5, export_tolerance=1e-4)
    staged = export_inference_model(folder, label_map, registration, training_parameters())
    check = json.loads((staged / "export_check.json").read_text())
    assert check["passed"]
    assert check["images"] == 5
    assert check["max_probability_difference"] <= 1e-4
    described = yaml.safe_load((staged / "inference.yml").read_text())
    assert described["PostProcess"]["Topk"] == {"topk": 3, "label_list": ["stripes 0", "stripes 1", "stripes 2"]}
    assert described["PreProcess"]["transform_ops"][1] == {"ResizeImage": {"resize_short": 32}}
    assert json.loads((staged / "label_map.json").read_text()) == label_map


def test_evaluation_without_training_names_command(tmp_path: Path):
    """If there is no training run, the evaluation shows the command to run."""
    with pytest.raises(CheckpointError, match="kedro run --pipelines training"):
        best_checkpoint(tmp_path)


def test_training_node_uses_its_own_parameters(dataset_parameters, training_parameters: Build, tmp_path: Path):
    """A run that starts at `train_network` uses its own parameters, not the YAML file of an earlier run."""
    inputs = {
        "dataset_folder": dataset_parameters.root,
        "train_list": dataset_parameters.root / "train_list.txt",
        "val_list": dataset_parameters.root / "val_list.txt",
        "shards": tmp_path / "shards",
        "manifest_file": tmp_path / "manifest.parquet",
        "training_folder": training_parameters().output_dir,
        "dataset": dataset_parameters,
        "scan_cache_folder": tmp_path / "scan_cache",
    }
    lists = read_lists(find_layout(dataset_parameters.root), dataset_parameters.class_num)
    entries = {split: prefixed.entries for split, prefixed in lists.items()}
    scan_dataset(dataset_parameters.root, entries, 1).to_parquet(inputs["manifest_file"], index=False)
    write_no_shard_set(inputs["shards"])
    for rate in (0.02, 0.003):
        training = training_parameters(epochs=1, lr={"name": "Cosine", "learning_rate": rate})
        folder = train_network(**inputs, training=training)
        assert read_training_config(config_path(folder)).Optimizer.lr.learning_rate == rate
        steps = [event for event in read_events(events_path(folder)) if isinstance(event, TrainStep)]
        assert steps[0].learning_rate == rate


def test_resume_records_images_that_an_older_run_did_not(
    dataset_parameters, training_parameters: Build, monkeypatch: pytest.MonkeyPatch
):
    """If a run did not record its images, its first resume records them, so that other machines can compare theirs."""
    monkeypatch.setattr(engine, "_run", lambda *_, **__: None)
    training = training_parameters(resume=True)
    checkpoint_path(training.output_dir, 1).mkdir(parents=True)
    values = np.array([(5, 7), (6, 8)], IDENTITY_DTYPE)
    images = ImageIdentities(["train/a", "train/b"], values)
    engine.train_network(render_training_config(training, dataset_parameters), training, images)
    assert np.load(images_path(training.output_dir)).tolist() == values.tolist()


def test_resume_with_changed_images_fails_before_ranks_start(
    dataset_parameters, training_parameters: Build, monkeypatch: pytest.MonkeyPatch
):
    """Resuming with images that have changed since the start of training is an error, before any rank starts."""
    monkeypatch.setattr(engine, "_run", lambda *_, **__: pytest.fail("the ranks were started"))
    training = training_parameters(resume=True)
    checkpoint_path(training.output_dir, 1).mkdir(parents=True)
    values = np.zeros(2, IDENTITY_DTYPE)
    save_identities(images_path(training.output_dir), ImageIdentities(["train/a", "train/b"], values))
    values["digest"] = (0, 7)
    values["bytes"] = (0, 1)
    with pytest.raises(CheckpointError, match="train/b"):
        engine.train_network(
            render_training_config(training, dataset_parameters),
            training,
            ImageIdentities(["train/a", "train/b"], values),
        )
