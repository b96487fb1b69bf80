"""Tests the `paddleclas` engine with a stub checkout, but with real processes, files and failures."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from safetensors.numpy import load_file

from placed import PlacedDataset
from resnet50_pipeline.events import CheckpointSaved, EvalEnd, Started, TrainStep, WarningRaised, read_events
from resnet50_pipeline.exceptions import (
    CheckpointError,
    NonFiniteLossError,
    ParameterError,
    RankFailedError,
    TrainingConfigError,
)
from resnet50_pipeline.paddleclas.export import export_inference_model
from resnet50_pipeline.paddleclas.history import training_history, training_summary
from resnet50_pipeline.parameters import ModelRegistrationParameters, TrainingParameters
from resnet50_pipeline.pdparams.files import read_pdparams
from resnet50_pipeline.training_dir import best_checkpoint, checkpoint_paths, events_path
from short_training import predict_best, train

pytestmark = pytest.mark.slow

STUB = Path(__file__).parents[1] / "stub_paddleclas"


@pytest.fixture
def parameters(training_parameters):
    """Return a function that builds `params:training` for the stub and adds `variables` to its environment."""

    def build(variables: dict[str, str] | None = None, **changes: Any) -> TrainingParameters:
        base = training_parameters()
        launch = base.launch.model_copy(update={"environment": {**base.launch.environment, **(variables or {})}})
        return training_parameters(**{"launch": launch, "engine": "paddleclas", "paddleclas_home": STUB, **changes})

    return build


@pytest.fixture(scope="module")
def trained(tmp_path_factory, make_training_parameters, striped_dataset) -> tuple[TrainingParameters, Path]:
    """The parameters and the folder of a finished training run with the stub."""
    folder = tmp_path_factory.mktemp("upstream") / "training"
    training = make_training_parameters(folder, engine="paddleclas", paddleclas_home=STUB, epochs=3)
    train(training, PlacedDataset(root=striped_dataset, class_num=3))
    return training, folder


def events_of(folder: Path) -> list:
    return read_events(events_path(folder))


def test_both_engines_write_same_kinds_of_events(trained):
    """Both engines write the same kinds of events, from which the history and the summary are built."""
    _, folder = trained
    kinds = [event.event for event in events_of(folder)]
    assert (kinds[0], kinds[-1]) == ("started", "finished")
    assert kinds.count("train_step") == 18
    assert kinds.count("epoch_end") == kinds.count("eval_end") == 3
    steps = [event for event in events_of(folder) if isinstance(event, TrainStep)]
    assert [step.step for step in steps] == list(range(1, 19))
    history = training_history(events_path(folder))
    assert len(history) == 24
    best = best_checkpoint(folder)
    summary = training_summary(events_path(folder), "ResNet18", str(best.relative_to(folder)))
    assert (summary["epochs"], summary["steps"], summary["ranks"], summary["resumed"]) == (3, 18, 1, False)


def test_best_set_equals_upstream_weights(trained):
    """The best set is bit-identical to the file that upstream saved at its best epoch."""
    _, folder = trained
    best = best_checkpoint(folder)
    epoch = max((event for event in events_of(folder) if isinstance(event, EvalEnd)), key=lambda event: event.top1)
    assert best.name == f"epoch-{epoch.epoch:04d}"
    arrays = load_file(best / "weights.safetensors")
    for name, array in read_pdparams(folder / f"epoch_{epoch.epoch}.pdparams").items():
        np.testing.assert_array_equal(arrays[name], array)
    paths = [event.path for event in events_of(folder) if isinstance(event, CheckpointSaved)]
    assert f"checkpoints/{best.name}" in paths
    assert all((folder / path).exists() for path in paths if path.endswith(".pdparams"))


def test_upstream_set_can_be_evaluated_and_exported(trained, striped_dataset):
    """The best set can be evaluated and exported without conversion."""
    training, folder = trained
    predictions = predict_best(folder, striped_dataset / "val_list.txt", training.launch, 4)
    assert len(predictions) == len((striped_dataset / "val_list.txt").read_text().splitlines())
    label_map = {"classes": [{"name": name} for name in "abc"]}
    settings = ModelRegistrationParameters(model_name="m", export_check_images=4)
    assert (export_inference_model(folder, label_map, settings, training) / "inference.yml").exists()


@pytest.mark.parametrize("layout", [pytest.param("flat", marks=pytest.mark.exhaustive), "arch"])
def test_resumed_run_continues_steps_and_keeps_best_set(layout, parameters, dataset_parameters):
    """After a resume, the step count continues, and the best set is kept although upstream forgets its best metric."""
    variables = {"STUB_LAYOUT": layout, "STUB_ACCURACY": "0.66667,0.33333,0.33333"}
    training = parameters({**variables, "STUB_FAILURE": "crash@2"}, epochs=3)
    with pytest.raises(RankFailedError, match="asked to crash"):
        train(training, dataset_parameters)
    best_weights = load_file(checkpoint_paths(training.output_dir)[0] / "weights.safetensors")

    train(parameters(variables, epochs=3, resume=True), dataset_parameters)
    best = best_checkpoint(training.output_dir)
    assert best.name == "epoch-0001"
    for name, array in load_file(best / "weights.safetensors").items():
        np.testing.assert_array_equal(array, best_weights[name])
    events = events_of(training.output_dir)
    assert [event.first_step for event in events if isinstance(event, Started)] == [0, 6]
    assert (events[-1].best_epoch, events[-1].best_top1) == (1, 14 / 21)
    assert "Finish load checkpoints" in (training.output_dir / "train.log").read_text()


@pytest.mark.exhaustive
def test_run_killed_during_save_resumes_from_previous_epoch(parameters, dataset_parameters, caplog):
    """If a run is killed during a save, it resumes from the previous epoch and names the incomplete files."""
    training = parameters({"STUB_FAILURE": "torn@2", "STUB_ACCURACY": "0.66667,0.33333"}, epochs=2)
    with pytest.raises(RankFailedError, match="SIGKILL"):
        train(training, dataset_parameters)
    train(parameters(epochs=2, resume=True), dataset_parameters)
    assert "epoch_2.pdparams" in caplog.text
    assert [event.first_step for event in events_of(training.output_dir) if isinstance(event, Started)] == [0, 6]


def test_resume_auto_finds_upstream_checkpoints(parameters, dataset_parameters):
    """`auto` resumes an unfinished upstream run and starts from scratch after a finished one."""
    training = parameters({"STUB_FAILURE": "crash@2"}, epochs=2, resume="auto")
    with pytest.raises(RankFailedError):
        train(training, dataset_parameters)
    for first_steps in ([0, 6], [0]):
        train(parameters(epochs=2, resume="auto"), dataset_parameters)
        started = [event for event in events_of(training.output_dir) if isinstance(event, Started)]
        assert [event.first_step for event in started] == first_steps


@pytest.mark.exhaustive
def test_unfinished_upstream_run_is_moved_aside(parameters, dataset_parameters):
    """An unfinished run is moved aside, even before its first evaluation."""
    training = parameters({"STUB_FAILURE": "crash@2"}, epochs=2, eval_interval=2)
    with pytest.raises(RankFailedError):
        train(training, dataset_parameters)
    assert not checkpoint_paths(training.output_dir)
    train(parameters(epochs=1), dataset_parameters)
    aside = training.output_dir.with_name(f"{training.output_dir.name}.unfinished-1")
    assert (aside / "epoch_1.pdparams").exists()


def test_nan_loss_ends_upstream_run(parameters, dataset_parameters):
    """A NaN loss ends the run with an error that identifies the step, and the best set is kept (case 34)."""
    training = parameters({"STUB_FAILURE": "nan@2"}, epochs=9)
    with pytest.raises(NonFiniteLossError, match=r"nan at step 7 \(epoch 2\)"):
        train(training, dataset_parameters)
    assert [path.name for path in checkpoint_paths(training.output_dir)] == ["epoch-0001"]
    assert processes_of(training.output_dir) == []


def test_hang_is_detected_by_silent_log(parameters, dataset_parameters):
    """A hang is detected from the silence of upstream's log, because upstream does not write heartbeats (case 30)."""
    quiet = parameters().launch.model_copy(
        update={"hang_timeout_seconds": 25.0, "environment": {"STUB_FAILURE": "hang@1"}}
    )
    started = time.monotonic()
    with pytest.raises(RankFailedError, match="rank 0 hangs"):
        train(parameters(launch=quiet), dataset_parameters)
    assert time.monotonic() - started > 25
    assert processes_of(parameters().output_dir) == []


def test_early_exit_is_an_error(parameters, dataset_parameters):
    """Exit code 0 after the first of two epochs is an error."""
    training = parameters({"STUB_FAILURE": "quit@1"})
    with pytest.raises(RankFailedError, match="after epoch 1 of 2"):
        train(training, dataset_parameters)
    with pytest.raises(CheckpointError, match=r"training\.resume="):
        best_checkpoint(training.output_dir)


def test_replaced_image_is_reported(parameters, striped_dataset, tmp_path):
    """If upstream replaces an image, a warning event reports it (case 28)."""
    root = shutil.copytree(striped_dataset, tmp_path / "data")
    broken = next((root / "val").rglob("*.JPEG"))
    broken.write_bytes(b"no image")
    training = parameters(epochs=1)
    train(training, PlacedDataset(root=root, class_num=3))
    warnings = [event for event in events_of(training.output_dir) if isinstance(event, WarningRaised)]
    assert [broken.name in event.message for event in warnings] == [True]


def test_upstream_gets_no_secrets(parameters, dataset_parameters, monkeypatch):
    """Upstream and its launcher receive only the filtered environment (case 45)."""
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "canary-77c1")
    training = parameters(epochs=1)
    train(training, dataset_parameters)
    files = [path for path in training.output_dir.rglob("*") if path.is_file()]
    assert not [path for path in files if b"canary-77c1" in path.read_bytes()]


def test_invalid_setup_is_reported_before_old_run_is_moved(parameters, dataset_parameters, trained, tmp_path):
    """A missing checkout or an unsupported recipe is reported before the finished run is moved."""
    training, folder = trained
    mine = shutil.copytree(folder, tmp_path / "training")
    before = sorted(mine.iterdir())
    for wrong, error in (
        (training.model_copy(update={"paddleclas_home": tmp_path}), ParameterError),
        (
            training.model_copy(update={"arch": training.arch.model_copy(update={"zero_init_residual": True})}),
            TrainingConfigError,
        ),
    ):
        with pytest.raises(error):
            train(wrong.model_copy(update={"output_dir": mine}), dataset_parameters)
        assert sorted(mine.iterdir()) == before


def processes_of(folder: Path) -> list[str]:
    """Return the command lines of processes that contain the folder."""
    found = []
    for process in psutil.process_iter():
        try:
            line = " ".join(process.cmdline())
        except psutil.Error:
            continue
        if str(folder) in line and process.status() != psutil.STATUS_ZOMBIE:
            found.append(line)
    return found
