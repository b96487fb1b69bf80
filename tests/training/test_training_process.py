"""Real ranks: what training leaves behind, exact resume, damaged sets, divergence, and evaluation on any ranks."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from resnet50_pipeline.events import CheckpointSaved, EvalEnd, Finished, read_events
from resnet50_pipeline.exceptions import (
    CheckpointError,
    ImageDecodeError,
    NonFiniteLossError,
    OutputDirectoryInUseError,
    ParameterError,
    PipelineError,
    RankFailedError,
)
from resnet50_pipeline.paddleclas.evaluated_model import find_best_model
from resnet50_pipeline.paddleclas.export import export_inference_model
from resnet50_pipeline.paddleclas.history import training_history, training_summary
from resnet50_pipeline.paddleclas.output_dir import claim_output_dir, starting_anew
from resnet50_pipeline.paddleclas.prediction import predict_list
from resnet50_pipeline.parameters import (
    DatasetParameters,
    LaunchParameters,
    ModelRegistrationParameters,
    TrainingParameters,
)
from resnet50_pipeline.training_dir import best_checkpoint, checkpoint_paths, events_path
from short_training import stop_after, train

pytestmark = pytest.mark.slow

Build = Callable[..., TrainingParameters]


def predict_best(training_dir: Path, list_file: Path, launch: LaunchParameters, batch_size: int):
    """Return what the best checkpoint of a training predicts for a list."""
    model = find_best_model(training_dir)
    return predict_list(model, list_file, launch, batch_size_per_rank=batch_size, work_parent=training_dir.parent)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, striped_dataset: Path, make_training_parameters) -> tuple[Path, Path]:
    """A finished training of two ranks: (configuration, folder)."""
    folder = tmp_path_factory.mktemp("trained") / "training"
    training = make_training_parameters(folder, ranks=2, print_batch_step=2)
    train(training, DatasetParameters(root=striped_dataset, class_num=3))
    return folder.with_suffix(".yaml"), folder


def test_events_tell_the_whole_story(trained: tuple[Path, Path]):
    """Steps, epochs, evaluations of every val image, sets and the end, in order; history and summary agree."""
    events, _ = read_events(events_path(trained[1]))
    # Sets are written while the training goes on, so when exactly they are told of is left open.
    kinds = [event.event for event in events if not isinstance(event, CheckpointSaved)]
    epoch = ["train_step", "train_step", "epoch_end", "eval_end"]
    assert kinds == ["started", *epoch, *epoch, "finished"]
    assert [event.epoch for event in events if isinstance(event, CheckpointSaved)] == [1, 2]
    assert [event.images for event in events if isinstance(event, EvalEnd)] == [21, 21]
    history = training_history(events_path(trained[1]))
    assert history[history["event"] == "train_step"]["step"].tolist() == [2, 3, 4, 6]
    finished = events[-1]
    assert isinstance(finished, Finished)
    summary = training_summary(events_path(trained[1]), "ResNet18", "checkpoints/epoch-0002")
    assert summary["best_top1"] == finished.best_top1 == max(e.top1 for e in events if isinstance(e, EvalEnd))
    assert (summary["ranks"], summary["steps"], summary["resumed"]) == (2, 6, False)


def test_no_secret_reaches_the_logs(striped_dataset, dataset_parameters, training_parameters: Build, monkeypatch):
    """Paddle's launcher writes its environment into the log folder; a token of ours is not in it."""
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "canary-8d1f")
    folder = train(training_parameters(epochs=1), dataset_parameters)
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert any(path.name.startswith("envlog") for path in files)
    assert not [path for path in files if b"canary-8d1f" in path.read_bytes()]


def test_damaged_set_is_named_with_the_one_before_it(dataset_parameters, training_parameters: Build):
    """One flipped bit in the newest set: the error names the file, and the set to go on from."""
    training = training_parameters(epochs=2)
    folder = train(training, dataset_parameters)
    weights = checkpoint_paths(folder)[-1] / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"weights\.safetensors: damaged.*epoch-0001"):
        train(training.model_copy(update={"resume": True, "epochs": 3}), dataset_parameters)


def test_resume_without_a_set_says_so(dataset_parameters, training_parameters: Build):
    """There is nothing to resume from in an empty folder, and no rank is started to find that out."""
    with pytest.raises(CheckpointError, match="no checkpoint set to resume from"):
        train(training_parameters(resume=True), dataset_parameters)


def test_divergence_stops_and_keeps_the_sets(dataset_parameters, training_parameters: Build):
    """A loss that is not finite ends the run with its step; no set of that epoch is written."""
    training = training_parameters(epochs=3, lr={"name": "Cosine", "learning_rate": 1e30})
    with pytest.raises(NonFiniteLossError, match=r"loss is (nan|inf) at step \d"):
        train(training, dataset_parameters)
    assert checkpoint_paths(training.output_dir) == []


@pytest.mark.parametrize("workers", [0, 2])
def test_unreadable_image_stops_training(workers: int, dataset_parameters, training_parameters: Build, tmp_path: Path):
    """An image that is no image ends the run and is named; it is never replaced by another one."""
    root = tmp_path / "dataset"
    shutil.copytree(dataset_parameters.root, root)
    (root / "train" / "n00000001" / "n00000001_3.JPEG").write_text("<html>404</html>")
    training = training_parameters(loader={"num_workers": workers})
    with pytest.raises(ImageDecodeError, match=r"^\S*n00000001_3\.JPEG: .*is no image|are no image"):
        train(training, dataset_parameters.model_copy(update={"root": root}))


def test_unreadable_image_stops_evaluation(trained: tuple[Path, Path], tmp_path: Path):
    """Evaluation never substitutes or skips: an image that is gone is an error that names it."""
    gone = tmp_path / "val_list.txt"
    gone.write_text("val/n00000000/n00000000_0.JPEG 0\nval/n00000000/gone.JPEG 0\n")
    with pytest.raises(ImageDecodeError, match=r"gone\.JPEG: cannot be read"):
        predict_best(trained[1], gone, LaunchParameters(device="cpu", devices=(0, 1)), 4)


def test_second_run_on_one_folder_is_refused(dataset_parameters, training_parameters: Build):
    """While a run holds the folder, another one ends at once and names the first one's PID."""
    training = training_parameters()
    with claim_output_dir(training.output_dir), pytest.raises(OutputDirectoryInUseError, match=str(os.getpid())):
        train(training, dataset_parameters)


def test_unfinished_runs_are_set_aside(trained: tuple[Path, Path], tmp_path: Path):
    """Fresh starts never delete an unfinished run with checkpoints, not the second one either, nor a resumed one."""
    folder = tmp_path / "training"
    for number in (1, 2):
        shutil.copytree(trained[1], folder)
        if number == 1:
            stop_after(folder, epoch=1)
        else:  # finished, then resumed, and stopped
            events = events_path(folder)
            events.write_text(events.read_text() + events.read_text().splitlines(keepends=True)[0])
        with starting_anew(folder):
            assert not folder.exists()
        assert checkpoint_paths(tmp_path / f"training.unfinished-{number}")


def test_finished_run_stays_until_its_successor_is_done(trained: tuple[Path, Path], tmp_path: Path):
    """A new training that cannot start leaves the finished one where it was, and its logs; a whole one replaces it."""
    folder = tmp_path / "training"
    shutil.copytree(trained[1], folder)
    for words in ("no such device", "no such card"):
        with pytest.raises(RankFailedError), starting_anew(folder):
            folder.mkdir()
            (folder / "log").write_text(words)
            raise RankFailedError(words)
        assert best_checkpoint(folder).is_dir()
        assert (tmp_path / "training.failed" / "log").read_text() == words
    with starting_anew(folder):
        folder.mkdir()
    assert list(folder.iterdir()) == []
    assert [path.name for path in tmp_path.iterdir()] == ["training"]


def test_resuming_with_another_recipe_or_other_data_is_refused(
    dataset_parameters, training_parameters: Build, tmp_path: Path
):
    """Epochs, batch and the lists' content decide the schedule; a change of any is named, and nothing runs."""
    training = training_parameters(epochs=1)
    train(training, dataset_parameters)
    other = training_parameters(epochs=2, batch_size_per_rank=7, resume=True)
    with pytest.raises(CheckpointError, match=r"Global\.epochs: 1 there, 2 now[\s\S]*batch_size: 6 there, 7 now"):
        train(other, dataset_parameters)
    root = tmp_path / "fewer"
    shutil.copytree(dataset_parameters.root, root)
    lines = (root / "train_list.txt").read_text().splitlines(keepends=True)
    (root / "train_list.txt").write_text("".join(lines[1:]))
    with pytest.raises(CheckpointError, match=r"DataLoader\.Train\.list_digest"):
        train(training.model_copy(update={"resume": True}), dataset_parameters.model_copy(update={"root": root}))


def test_best_is_named_again_after_a_kill_between_set_and_name(dataset_parameters, training_parameters: Build):
    """Killed after a new best set was saved and before best.json named it: the resumed run names it."""
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
    """A training that was killed, also one that came after a finished one, has no best checkpoint to register."""
    folder = tmp_path / "training"
    shutil.copytree(trained[1], folder)
    stop_after(folder, epoch=1)
    with pytest.raises(CheckpointError, match="stopped early"):
        predict_best(folder, striped_dataset / "val_list.txt", LaunchParameters(device="cpu", devices=(0,)), 4)


@pytest.mark.parametrize("device", ["gpu", "gpuu"])
def test_device_that_this_paddle_cannot_use_is_an_error(device: str, dataset_parameters, training_parameters: Build):
    """A device of another build, or of none, ends the run with the words of who refused it."""
    launch = training_parameters().launch.model_copy(update={"device": device})
    with pytest.raises(PipelineError):
        train(training_parameters(launch=launch.model_dump()), dataset_parameters)


def test_folder_of_something_else_is_not_emptied(dataset_parameters, training_parameters: Build, tmp_path: Path):
    """A training that is pointed at a folder of other files refuses to start, and they stay."""
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("years of work")
    with pytest.raises(ParameterError, match=r"training\.output_dir is .*thesis"):
        train(training_parameters(output_dir=tmp_path / "thesis"), dataset_parameters)
    assert (tmp_path / "thesis" / "chapter1.tex").exists()


def test_predictions_do_not_depend_on_ranks_or_batches(trained: tuple[Path, Path], striped_dataset: Path):
    """1, 2 and 3 ranks over 20 images (a length that none but 2 divides) give the same rows in the list's order."""
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


def test_evaluation_agrees_with_what_training_saw(trained: tuple[Path, Path], striped_dataset: Path):
    """The best set's predictions give the top-1 that the training's own evaluation reported."""
    _, folder = trained
    table, _ = predict_best(folder, striped_dataset / "val_list.txt", LaunchParameters(device="cpu", devices=(0,)), 5)
    top1 = np.mean(np.stack(table["top5_ids"])[:, 0] == table["label"])
    best = json.loads((folder / "best.json").read_text())
    assert top1 == pytest.approx(best["top1"])


def test_exported_model_agrees_with_the_checkpoint(trained: tuple[Path, Path], training_parameters: Build):
    """The inference model gives the checkpoint's probabilities on real val images, and PaddleClas' inference.yml."""
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


def test_best_checkpoint_of_nothing_is_an_error(tmp_path: Path):
    """Evaluating before training says what to run."""
    with pytest.raises(CheckpointError, match="kedro run --pipelines training"):
        best_checkpoint(tmp_path)
