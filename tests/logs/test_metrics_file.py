"""The metrics file contains the latest values of a run, in the format of node_exporter's textfile collector."""

from __future__ import annotations

import logging
import math
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from resnet50_pipeline.events import AnyEvent, CheckpointSaved, EvalEnd, Finished, Started, TrainStep
from resnet50_pipeline.exceptions import ParameterError
from resnet50_pipeline.logs.context import log_context
from resnet50_pipeline.logs.metrics_file import MetricsFile
from resnet50_pipeline.logs.set_up import logging_run
from resnet50_pipeline.paddleclas.progress import TrainingProgress
from resnet50_pipeline.parameters import LogParameters

STARTED = Started(
    time=1.5e9,
    ranks=2,
    device="cpu",
    epochs=3,
    steps_per_epoch=9,
    train_images=90,
    val_images=9,
    first_step=4,
    paddle_version="3.3.1",
)
STEP = TrainStep(
    time=1.6e9,
    step=5,
    epoch=1,
    loss=1.25,
    top1=0.5,
    learning_rate=1e-05,
    images_per_second=30.0,
    reader_seconds=0.1,
    batch_seconds=0.5,
    gradient_norm=math.inf,
    update_ratios={"stem": 0.002, "head": 0.001},
    phase_seconds={"load": 0.1, "forward": 0.15},
    memory_bytes=3 << 30,
    peak_memory_bytes=5 << 30,
)
EVALUATED = EvalEnd(epoch=1, step=9, images=9, loss=1.0, top1=0.4, top5=0.9, images_per_second=60, is_best=True)
SAVED = CheckpointSaved(epoch=1, step=9, path="checkpoints/epoch-0001", seconds=2.5, stall_seconds=0.25, is_best=True)
FINISHED = Finished(epochs=3, step=27, best_epoch=1, best_top1=0.4, seconds=9.0, images_per_second=30.0)


def samples(path: Path) -> dict[tuple[str, str], float]:
    """Return the samples in a file, keyed by name and label, and check that the file is complete and consistent."""
    families = list(text_string_to_metric_families(path.read_text()))
    assert {family.type for family in families} == {"gauge"}
    assert all(family.documentation.endswith(".") for family in families)
    found = [(sample.name, sample.labels, sample.value) for family in families for sample in family.samples]
    assert len({name for name, _, _ in found}) == len(families)
    return {(name, labels.get("phase", labels.get("stage", ""))): value for name, labels, value in found}


def write(tmp_path: Path, *events: AnyEvent) -> Path:
    path = tmp_path / "resnet50.prom"
    file = MetricsFile(path, seconds_between_writes=0)
    for event in events:
        file.update(event)
    return path


def test_file_has_the_latest_values(tmp_path):
    """A Prometheus parser reads every value. Values that do not apply, such as the loss scale, are omitted."""
    found = samples(write(tmp_path, STARTED, STEP, EVALUATED, SAVED))
    assert found[("resnet50_training_running", "")] == 1
    assert found[("resnet50_training_ranks", "")] == 2
    assert found[("resnet50_training_steps", "")] == 27
    assert found[("resnet50_training_step", "")] == 5
    assert found[("resnet50_training_loss", "")] == 1.25
    assert found[("resnet50_training_learning_rate", "")] == 1e-05
    assert found[("resnet50_training_gradient_norm", "")] == math.inf
    assert found[("resnet50_training_phase_seconds", "forward")] == 0.15
    assert found[("resnet50_training_update_ratio", "head")] == 0.001
    assert found[("resnet50_training_memory_peak_bytes", "")] == 5 << 30
    assert found[("resnet50_validation_top1_ratio", "")] == 0.4
    assert found[("resnet50_checkpoint_stall_seconds", "")] == 0.25
    assert ("resnet50_training_loss_scale", "") not in found


def test_restart_forgets_old_values_and_end_is_visible(tmp_path):
    """After a restart, the loss of the failed ranks is gone. After the end, training_running is 0."""
    found = samples(write(tmp_path, STARTED, STEP, STARTED))
    assert ("resnet50_training_loss", "") not in found
    assert found[("resnet50_training_step", "")] == 4
    assert samples(write(tmp_path, STARTED, STEP, FINISHED))[("resnet50_training_running", "")] == 0


def test_labels_are_escaped(tmp_path, monkeypatch):
    """Quotes, backslashes and line breaks in the session survive."""
    monkeypatch.setattr(log_context, "session", 'a"b\\c\nd')
    (family, *_) = text_string_to_metric_families(write(tmp_path, STARTED).read_text())
    assert family.samples[0].labels == {"session": 'a"b\\c\nd'}


def test_steps_are_written_at_most_once_per_interval(tmp_path):
    """Between two writes, steps are not written, but evaluations and checkpoint sets are."""
    now, path = [0.0], tmp_path / "resnet50.prom"
    file = MetricsFile(path, seconds_between_writes=10, clock=lambda: now[0])
    file.update(STARTED)

    def step_after(seconds: float, event: AnyEvent) -> float:
        now[0] = seconds
        file.update(event)
        return samples(path)[("resnet50_training_step", "")]

    assert step_after(5, STEP) == 4
    assert step_after(10, STEP.model_copy(update={"step": 6})) == 6
    assert step_after(11, STEP.model_copy(update={"step": 7})) == 6
    assert step_after(12, EVALUATED) == 7


def test_file_is_replaced_and_readable_for_others(tmp_path):
    """Each write is a rename, so that the collector never reads half a file, and another user may read it."""
    path = write(tmp_path, STARTED)
    before = path.read_bytes()
    with path.open("rb") as reader:  # a reader that has opened the file sees the old content to its end
        write(tmp_path, STARTED, STEP)
        assert reader.read() == before != path.read_bytes()
    assert path.stat().st_mode & 0o044 == 0o044
    assert list(tmp_path.iterdir()) == [path]


def test_run_writes_the_file_by_parameter(tmp_path, caplog):
    """logs.metrics_file connects the file to the progress of a training run. By default, there is no file."""
    path = tmp_path / "resnet50.prom"
    with logging_run(LogParameters(metrics_file=path), is_quiet=True):
        assert not path.exists()
        with TrainingProgress() as show:
            show(STARTED)
            show(STEP)
            assert samples(path)[("resnet50_training_running", "")] == 1
        assert samples(path)[("resnet50_training_running", "")] == 0
    values = path.read_text()
    with logging_run(LogParameters(metrics_file=path), is_quiet=True):
        assert path.read_text() == values  # a run without training keeps the values of the last training run
        path.unlink()
        path.mkdir()  # a write now fails
        with caplog.at_level(logging.WARNING), TrainingProgress() as show:
            show(STARTED)
    assert LogParameters().metrics_file is None


def test_unusable_paths_are_rejected(tmp_path):
    """A path that cannot be written, and a name that node_exporter ignores, are errors before the run."""
    (tmp_path / "file").touch()
    with pytest.raises(ParameterError, match=r"logs\.metrics_file: cannot write .*File exists"):
        MetricsFile(tmp_path / "file" / "resnet50.prom", 10)
    with pytest.raises(ValueError, match=r"reads only \*\.prom"):
        LogParameters(metrics_file=tmp_path / "resnet50.txt")
