"""Tests faults in a training run with real ranks, and lists where all faults are tested.

Most tests run real ranks (gloo) in real processes without a GPU. Tests that cover only the supervisor use stub ranks,
which Paddle's launcher starts. The faults and the files with their tests:

fault 28  an image becomes unreadable      test_training_process.py
fault 29  a rank is killed                 here; paddleclas/test_supervise.py, test_machines.py (two machines)
fault 30  a rank hangs                     here; paddleclas/test_supervise.py, test_machines.py
fault 31  Ctrl-C, SIGTERM                  test_faults_kedro.py; paddleclas/test_no_orphans.py, hooks/
fault 32  launcher or Kedro is killed      test_faults_kedro.py; paddleclas/test_no_orphans.py, test_chaos.py
fault 33  port in use                      here; test_machines.py (the port of `master`)
fault 34  loss is NaN or infinite          here; test_training_process.py
fault 35  disk full, killed while saving   test_faults_saving.py, test_chaos.py
fault 36  an incomplete set                test_faults_saving.py, test_training_process.py
fault 37  stopped and resumed              test_resume.py, test_chaos.py
fault 38  /dev/shm, memory                 here; paddleclas/test_supervise.py
fault 40  a stale RUNNING run              hooks/test_tracking_hooks.py
fault 43  malicious .pdparams, YAML        ground/test_pdparams.py, trainer/test_pretrained.py; here (YAML)
fault 45  secrets in the environment       test_faults_kedro.py; paddleclas/test_launch.py
fault 46  two runs on one folder           test_faults_kedro.py; test_training_process.py
fault 47  no network                       here
"""

from __future__ import annotations

import json
import math
import re
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos import find, wait_until_no_process_is_left
from isolation import mounting, without_network
from resnet50_pipeline.events import EvalEnd, Finished, read_events
from resnet50_pipeline.exceptions import RETRY_EXIT_CODE, NonFiniteLossError, TrainingConfigError
from resnet50_pipeline.recipe.document import read_training_config
from resnet50_pipeline.training_dir import checkpoint_paths, events_path
from short_training import train
from stub_ranks import wait_for
from training_driver import run_training, start_training

pytestmark = pytest.mark.slow


@pytest.fixture
def training(training_parameters):
    """An endless training run on two ranks."""
    return training_parameters(ranks=2, epochs=500, keep_checkpoints=1)


@pytest.fixture
def running(training, striped_dataset: Path) -> Iterator[subprocess.Popen[str]]:
    """The endless training run, after it has saved a set."""
    process = start_training(training, striped_dataset)
    wait_for(lambda: process.poll() is not None or checkpoint_paths(training.output_dir), seconds=180)
    assert process.poll() is None, process.communicate()[1]
    yield process
    process.kill()
    process.communicate()
    wait_until_no_process_is_left(training.output_dir)


def test_killed_rank_is_named(training, running):
    """Fault 29: the error includes the rank, the signal, the log, and the resume command. The other rank ends too."""
    find("rank 1", running.pid, training.output_dir).kill()
    _, stderr = running.communicate(timeout=120)  # by itself, this training run would never end
    assert running.returncode == RETRY_EXIT_CODE
    assert "error: rank 1 ended with signal SIGKILL" in stderr
    assert str(training.output_dir / "log" / "workerlog.1") in stderr
    assert re.search(r"\n +kedro run --params training\.resume=true\n", stderr)


def test_stopped_rank_is_named(training, striped_dataset):
    """Fault 30: if a rank is stopped, the error identifies the rank, and all processes end."""
    launch = training.launch.model_copy(update={"hang_timeout_seconds": 20.0})
    training = training.model_copy(update={"launch": launch})
    process = start_training(training, striped_dataset)
    wait_for(lambda: process.poll() is not None or checkpoint_paths(training.output_dir), seconds=180)
    find("rank 1", process.pid, training.output_dir).suspend()
    _, stderr = process.communicate(timeout=90)
    assert process.returncode == RETRY_EXIT_CODE
    assert re.search(r"error: rank 1 hangs .*SIGSTOP", stderr)
    wait_until_no_process_is_left(training.output_dir)


def test_ports_in_use_are_skipped(training_parameters, striped_dataset: Path):
    """Fault 33: ports in use are skipped, and the run uses other ports in its range."""
    with socket.socket() as first, socket.socket() as second:
        first.bind(("", 0))
        start = first.getsockname()[1]
        try:
            second.bind(("", start + 1))
        except OSError:
            second.bind(("", 0))
        launch = training_parameters(ranks=2).launch
        launch = launch.model_copy(
            update={"environment": {**launch.environment, "PORT_RANGE": f"{start}:{start + 40}"}}
        )
        training = training_parameters(epochs=1).model_copy(update={"launch": launch})
        run_training(training, striped_dataset)
        log = (training.output_dir / "log" / "workerlog.0").read_text()
        ports = {
            int(port) for port in re.findall(r"\d+\.\d+\.\d+\.\d+:(\d+)", environment_of_rank(training.output_dir))
        }
        assert ports, log
        assert all(start < port <= start + 40 for port in ports)
        assert not ports & {start, second.getsockname()[1]}


def environment_of_rank(output_dir: Path) -> str:
    return (output_dir / "log" / "envlog.0").read_text()


def test_diverged_run_keeps_best_set(training_parameters, striped_dataset: Path):
    """Fault 34: if a resumed run diverges, the error identifies the step, and the best set is kept."""
    training = training_parameters(epochs=4, lr={"name": "Piecewise", "decay_epochs": [2], "values": [0.01, 1e30]})
    process = start_training(training, striped_dataset)
    _, stderr = process.communicate(timeout=200)
    assert process.returncode == 3  # the exit code that sweeps recognize
    assert re.search(r"error: the loss is (nan|inf) at step \d+", stderr)
    best = json.loads((training.output_dir / "best.json").read_text())
    assert best["epoch"] <= 2
    assert (training.output_dir / best["checkpoint"] / "MANIFEST.json").is_file()
    events = read_events(events_path(training.output_dir))
    assert not any(isinstance(event, Finished) for event in events)
    assert max(event.epoch for event in events if isinstance(event, EvalEnd)) == 2


def test_diverged_steps_are_not_saved(training_parameters, dataset_parameters):
    """If the loss becomes NaN between two reports, the next set within the epoch is not saved."""
    rate = {"name": "Cosine", "learning_rate": 1e30}
    often = {"batch_size_per_rank": 3, "save_interval_steps": 1, "keep_checkpoints": 99, "print_batch_step": 100}
    training = training_parameters(ranks=1, epochs=1, lr=rate, **often)
    with pytest.raises(NonFiniteLossError, match=r"the loss is (nan|inf) at step \d"):
        train(training, dataset_parameters)
    sets = checkpoint_paths(training.output_dir)
    assert sets
    for path in sets:
        (interval,) = json.loads((path / "state.json").read_text())["meters"]["interval"]
        assert math.isfinite(interval[0]), path.name


def test_weights_that_overflow_are_not_saved(training_parameters, dataset_parameters):
    """If the weights become infinite in a step whose loss is still finite, the set of this step is not saved."""
    rate = {"name": "Cosine", "learning_rate": 1e39}  # infinite as float32
    often = {"batch_size_per_rank": 3, "save_interval_steps": 1, "keep_checkpoints": 99, "print_batch_step": 100}
    training = training_parameters(ranks=1, epochs=1, lr=rate, **often)
    with pytest.raises(NonFiniteLossError):
        train(training, dataset_parameters)
    assert checkpoint_paths(training.output_dir) == []


def test_training_runs_with_small_shared_memory(training_parameters, striped_dataset: Path, tmp_path: Path):
    """Fault 38: training runs with a small /dev/shm, because data loader workers do not use it.

    PaddleClas' engine does use /dev/shm. For the error if it is full, see paddleclas/test_supervise.py.
    """
    command = mounting('mount -t tmpfs -o size=64k tmpfs /dev/shm && exec "$@"')
    if command is None:
        pytest.skip("this user may not mount")
    training = training_parameters(loader={"num_workers": 2})
    process = start_training(training, striped_dataset, before=command)
    _, stderr = process.communicate(timeout=200)
    assert process.returncode == 0, stderr
    events = read_events(events_path(training.output_dir))
    assert any(isinstance(event, Finished) for event in events)


def test_training_runs_without_network(training_parameters, striped_dataset: Path):
    """Fault 47: training works without a network or a resolver."""
    command = without_network()
    if command is None:
        pytest.skip("this user may not make a network namespace")
    process = start_training(training_parameters(epochs=1, ranks=2), striped_dataset, before=command)
    _, said = process.communicate(timeout=200)
    assert process.returncode == 0, said


def test_pretrained_without_file_is_rejected(tmp_path: Path, training_parameters, dataset_parameters):
    """Fault 47: `pretrained: true`, which would start a download in PaddleClas, is rejected."""
    from placed import render_training_config

    lists = [dataset_parameters.root / f"{split}_list.txt" for split in ("train", "val")]
    document = render_training_config(training_parameters(), dataset_parameters, *lists).to_yaml()
    config = tmp_path / "config.yaml"
    config.write_text(document.replace("pretrained: false", "pretrained: true"))
    with pytest.raises(TrainingConfigError, match="pretrained"):
        read_training_config(config)


@pytest.mark.parametrize("value", ["!!python/object/apply:os.system ['touch {}']", "!!python/name:os.system"])
def test_malicious_yaml_is_rejected(tmp_path: Path, value: str):
    """Fault 43: a YAML file that would run code is rejected without running the code."""
    trace = tmp_path / "executed"
    config = tmp_path / "config.yaml"
    config.write_text(f"Global:\n  device: {value.format(trace)}\n")
    with pytest.raises(TrainingConfigError):
        read_training_config(config)
    assert not trace.exists()
