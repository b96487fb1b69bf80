"""The engine `paddleclas` against a small stub of a checkout: real processes, real files, and every way to fail."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from safetensors.numpy import load_file

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
from resnet50_pipeline.paddleclas.upstream_tools import evaluate_with_upstream, export_with_upstream
from resnet50_pipeline.parameters import DatasetParameters, ModelRegistrationParameters, TrainingParameters
from resnet50_pipeline.pdparams import read_pdparams
from resnet50_pipeline.training_dir import best_checkpoint, checkpoint_paths, events_path
from short_training import predict_best, train

pytestmark = pytest.mark.slow

STUB = Path(__file__).parents[1] / "stub_paddleclas"


@pytest.fixture
def parameters(training_parameters):
    """A function to `params:training` of a run of the stub; `told` goes into its environment."""

    def build(told: dict[str, str] | None = None, **changes: Any) -> TrainingParameters:
        base = training_parameters()
        launch = base.launch.model_copy(update={"environment": {**base.launch.environment, **(told or {})}})
        return training_parameters(**{"launch": launch, "engine": "paddleclas", "paddleclas_home": STUB, **changes})

    return build


@pytest.fixture(scope="module")
def trained(tmp_path_factory, make_training_parameters, striped_dataset) -> tuple[TrainingParameters, Path]:
    """A finished training of the stub: parameters and folder."""
    folder = tmp_path_factory.mktemp("upstream") / "training"
    training = make_training_parameters(folder, engine="paddleclas", paddleclas_home=STUB, epochs=3)
    train(training, DatasetParameters(root=striped_dataset, class_num=3))
    return training, folder


def events_of(folder: Path) -> list:
    return read_events(events_path(folder))[0]


def test_events_tell_the_same_story_as_the_native_engine(trained):
    """Steps, epochs, evaluations, sets and the end; history and summary are made of them as always."""
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


def test_the_best_weights_are_a_set_of_upstreams_very_bits(trained):
    """What evaluation and registration use is what upstream saved at its best epoch."""
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


def test_evaluation_export_and_upstreams_own_programs_agree(trained, striped_dataset, tmp_path):
    """Our evaluator and our export take the set unchanged, and tools/eval.py says the same of it."""
    training, folder = trained
    predictions = predict_best(folder, striped_dataset / "val_list.txt", training.launch, 4)
    top1 = (predictions["label"] == predictions["top5_ids"].str[0]).mean()
    said = evaluate_with_upstream(folder, STUB, training.launch)
    assert said.top1 == pytest.approx(top1, abs=5e-6)
    assert said.loss == pytest.approx(predictions["loss"].mean(), rel=1e-4)
    label_map = {"classes": [{"name": name} for name in "abc"]}
    settings = ModelRegistrationParameters(model_name="m", export_check_images=4)
    assert (export_inference_model(folder, label_map, settings, training) / "inference.yml").exists()
    export_with_upstream(folder, STUB, training.launch, tmp_path / "exported")
    assert (tmp_path / "exported" / "inference.pdiparams").exists()
    assert not list(folder.parent.glob(".upstream-*"))


@pytest.mark.parametrize("layout", ["flat", "arch"])
def test_a_resumed_run_goes_on_and_its_best_never_gets_worse(layout, parameters, dataset_parameters):
    """Upstream forgets the best metric at a resume and overwrites best_model; the set stays, events count on."""
    told = {"STUB_LAYOUT": layout, "STUB_ACCURACY": "0.66667,0.33333,0.33333"}
    training = parameters({**told, "STUB_FAILURE": "crash@2"}, epochs=3)
    with pytest.raises(RankFailedError, match="told to crash"):
        train(training, dataset_parameters)
    best_weights = load_file(checkpoint_paths(training.output_dir)[0] / "weights.safetensors")

    train(parameters(told, epochs=3, resume=True), dataset_parameters)
    best = best_checkpoint(training.output_dir)
    assert best.name == "epoch-0001"
    for name, array in load_file(best / "weights.safetensors").items():
        np.testing.assert_array_equal(array, best_weights[name])
    events = events_of(training.output_dir)
    assert [event.first_step for event in events if isinstance(event, Started)] == [0, 6]
    assert (events[-1].best_epoch, events[-1].best_top1) == (1, 14 / 21)
    assert "Finish load checkpoints" in (training.output_dir / "train.log").read_text()


def test_a_run_killed_while_it_saves_resumes_from_the_epoch_before(parameters, dataset_parameters, caplog):
    """The torn files are named and passed over, and never handed to upstream."""
    training = parameters({"STUB_FAILURE": "torn@2", "STUB_ACCURACY": "0.66667,0.33333"}, epochs=2)
    with pytest.raises(RankFailedError, match="SIGKILL"):
        train(training, dataset_parameters)
    train(parameters(epochs=2, resume=True), dataset_parameters)
    assert "epoch_2.pdparams" in caplog.text
    assert [event.first_step for event in events_of(training.output_dir) if isinstance(event, Started)] == [0, 6]


def test_resume_auto_knows_what_upstream_has_saved(parameters, dataset_parameters):
    """Auto goes on where upstream has left something, and starts anew where it has finished."""
    training = parameters({"STUB_FAILURE": "crash@2"}, epochs=2, resume="auto")
    with pytest.raises(RankFailedError):
        train(training, dataset_parameters)
    for first_steps in ([0, 6], [0]):
        train(parameters(epochs=2, resume="auto"), dataset_parameters)
        started = [event for event in events_of(training.output_dir) if isinstance(event, Started)]
        assert [event.first_step for event in started] == first_steps


def test_an_unfinished_run_is_moved_aside_and_not_deleted(parameters, dataset_parameters):
    """Its epochs may be days of work, even before the first evaluation has made a set of one."""
    training = parameters({"STUB_FAILURE": "crash@2"}, epochs=2, eval_interval=2)
    with pytest.raises(RankFailedError):
        train(training, dataset_parameters)
    assert not checkpoint_paths(training.output_dir)
    train(parameters(epochs=1), dataset_parameters)
    aside = training.output_dir.with_name(f"{training.output_dir.name}.unfinished-1")
    assert (aside / "epoch_1.pdparams").exists()


def test_a_loss_that_is_nan_ends_the_run(parameters, dataset_parameters):
    """Upstream would train on; the run ends, says where, and the best set before it stands (case 34)."""
    training = parameters({"STUB_FAILURE": "nan@2"}, epochs=9)
    with pytest.raises(NonFiniteLossError, match=r"nan at step 7 \(epoch 2\)"):
        train(training, dataset_parameters)
    assert [path.name for path in checkpoint_paths(training.output_dir)] == ["epoch-0001"]
    assert processes_of(training.output_dir) == []


def test_a_hang_is_noticed_by_the_silence_of_the_log(parameters, dataset_parameters):
    """Upstream writes no heartbeats: its log stands still, and the watchdog ends it (case 30)."""
    quiet = parameters().launch.model_copy(
        update={"hang_timeout_seconds": 25.0, "environment": {"STUB_FAILURE": "hang@1"}}
    )
    started = time.monotonic()
    with pytest.raises(RankFailedError, match="rank 0 hangs"):
        train(parameters(launch=quiet), dataset_parameters)
    assert time.monotonic() - started > 25
    assert processes_of(parameters().output_dir) == []


def test_an_early_end_is_no_success(parameters, dataset_parameters):
    """Exit code 0 after the first of two epochs is an error, not a finished training."""
    training = parameters({"STUB_FAILURE": "quit@1"})
    with pytest.raises(RankFailedError, match="after epoch 1 of 2"):
        train(training, dataset_parameters)
    with pytest.raises(CheckpointError, match="stopped early"):
        best_checkpoint(training.output_dir)


def test_a_replaced_image_is_told(parameters, striped_dataset, tmp_path):
    """Upstream goes on with another image where one cannot be read; the event file says so (case 28)."""
    root = shutil.copytree(striped_dataset, tmp_path / "data")
    broken = next((root / "val").rglob("*.JPEG"))
    broken.write_bytes(b"no image")
    training = parameters(epochs=1)
    train(training, DatasetParameters(root=root, class_num=3))
    warnings = [event for event in events_of(training.output_dir) if isinstance(event, WarningRaised)]
    assert [broken.name in event.message for event in warnings] == [True]


def test_no_secret_reaches_upstream(parameters, dataset_parameters, monkeypatch):
    """Its environment is the filtered one, and so is the one that the launcher logs (case 45)."""
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "canary-77c1")
    training = parameters(epochs=1)
    train(training, dataset_parameters)
    files = [path for path in training.output_dir.rglob("*") if path.is_file()]
    assert not [path for path in files if b"canary-77c1" in path.read_bytes()]


def test_what_is_wrong_is_said_before_anything_is_moved(parameters, dataset_parameters, trained, tmp_path):
    """A missing checkout or a recipe for the other engine leaves the finished training where it is."""
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
    """Return the command lines that name the folder."""
    found = []
    for process in psutil.process_iter():
        try:
            line = " ".join(process.cmdline())
        except psutil.Error:
            continue
        if str(folder) in line and process.status() != psutil.STATUS_ZOMBIE:
            found.append(line)
    return found
