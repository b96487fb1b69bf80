"""Where each fault of a training is tested, and the tests of those that real ranks can show.

Real ranks (gloo), real processes, no GPU; stub ranks, started by Paddle's own launcher, where only who watches them
matters. The faults, and where further tests of them stand:

fault 28  an image becomes unreadable      test_training_process.py
fault 29  a rank is killed                 here; paddleclas/test_supervise.py, test_machines.py (two machines)
fault 30  a rank hangs                     here; paddleclas/test_supervise.py, test_machines.py
fault 31  Ctrl-C, SIGTERM                  test_faults_kedro.py; paddleclas/test_no_orphans.py, hooks/
fault 32  launcher or Kedro is killed      test_faults_kedro.py; paddleclas/test_no_orphans.py, test_chaos.py
fault 33  port in use                      here; test_machines.py (the port at which machines meet)
fault 34  loss is NaN or infinite          here; test_training_process.py
fault 35  disk full, killed while saving   test_faults_saving.py, test_chaos.py
fault 36  a set that is not whole          test_faults_saving.py, test_training_process.py
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
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos import find, wait_until_nothing_is_left
from isolation import in_own_mounts, without_network
from resnet50_pipeline.events import EvalEnd, Finished, read_events
from resnet50_pipeline.exceptions import TrainingConfigError
from resnet50_pipeline.training_config import read_training_config
from resnet50_pipeline.training_dir import checkpoint_paths, events_path
from stub_ranks import wait_for
from training_driver import run_training, start_training

pytestmark = pytest.mark.slow


@pytest.fixture
def training(training_parameters):
    """A training of two ranks that does not end by itself."""
    return training_parameters(ranks=2, epochs=500, keep_checkpoints=1)


@pytest.fixture
def running(training, striped_dataset: Path) -> Iterator[subprocess.Popen[str]]:
    """That training, under way: it has saved a set."""
    process = start_training(training, striped_dataset)
    wait_for(lambda: process.poll() is not None or checkpoint_paths(training.output_dir), seconds=180)
    assert process.poll() is None, process.communicate()[1]
    yield process
    process.kill()
    process.communicate()
    wait_until_nothing_is_left(training.output_dir)


def test_killed_rank(training, running):
    """Fault 29: within 10 s: which rank, which signal, which log, and the command that goes on."""
    find("rank 1", running.pid, training.output_dir).kill()
    started = time.monotonic()
    _, words = running.communicate(timeout=30)
    assert time.monotonic() - started < 10
    assert running.returncode == 1
    assert "error: rank 1 ended with signal SIGKILL" in words
    assert str(training.output_dir / "log" / "workerlog.1") in words
    assert re.search(r"go on from there with\n  \S*training_driver\.py .* --params training\.resume=true\n", words)


def test_stopped_rank(training, striped_dataset):
    """Fault 30: a rank that stands still: the watchdog names it, and everything ends."""
    launch = training.launch.model_copy(update={"hang_timeout_seconds": 20.0})
    training = training.model_copy(update={"launch": launch})
    process = start_training(training, striped_dataset)
    wait_for(lambda: process.poll() is not None or checkpoint_paths(training.output_dir), seconds=180)
    find("rank 1", process.pid, training.output_dir).suspend()
    _, words = process.communicate(timeout=90)
    assert process.returncode == 1
    assert "error: rank 1 hangs (it is stopped, as by SIGSTOP): no step for 2" in words
    wait_until_nothing_is_left(training.output_dir)


def test_ports_in_use(training_parameters, striped_dataset: Path):
    """Fault 33: ports that are taken are passed over: the training takes others of its range."""
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


def test_divergence_leaves_what_was_best(training_parameters, striped_dataset: Path):
    """Fault 34: a resumed run that diverges ends with the step; the best set and its name stay as they were."""
    training = training_parameters(epochs=4, lr={"name": "Piecewise", "decay_epochs": [2], "values": [0.01, 1e30]})
    process = start_training(training, striped_dataset)
    _, words = process.communicate(timeout=200)
    assert process.returncode == 3  # a code of its own, by which a sweep knows it
    assert re.search(r"error: the loss is (nan|inf) at step \d+", words)
    best = json.loads((training.output_dir / "best.json").read_text())
    assert best["epoch"] <= 2
    assert (training.output_dir / best["checkpoint"] / "MANIFEST.json").is_file()
    events, _ = read_events(events_path(training.output_dir))
    assert not any(isinstance(event, Finished) for event in events)
    assert max(event.epoch for event in events if isinstance(event, EvalEnd)) == 2


def test_shared_memory_too_small(training_parameters, striped_dataset: Path, tmp_path: Path):
    """Fault 38: loader processes without room in /dev/shm train all the same, for they do not need it.

    Those of PaddleClas' engine do: paddleclas/test_supervise.py has its words, with the cause and the setting.
    """
    command = in_own_mounts('mount -t tmpfs -o size=64k tmpfs /dev/shm && exec "$@"')
    if command is None:
        pytest.skip("this user may not mount")
    training = training_parameters(loader={"num_workers": 2})
    process = start_training(training, striped_dataset, before=command)
    _, words = process.communicate(timeout=200)
    assert process.returncode == 0, words
    events, _ = read_events(events_path(training.output_dir))
    assert any(isinstance(event, Finished) for event in events)


def test_no_network(training_parameters, striped_dataset: Path):
    """Fault 47: without a network, not even a resolver, training runs: nothing tries to download."""
    command = without_network()
    if command is None:
        pytest.skip("this user may not make a network namespace")
    process = start_training(training_parameters(epochs=1, ranks=2), striped_dataset, before=command)
    _, said = process.communicate(timeout=200)
    assert process.returncode == 0, said


def test_pretrained_without_a_file(tmp_path: Path, training_parameters, dataset_parameters):
    """Fault 47: `pretrained: true`, for which PaddleClas downloads, is refused by name."""
    from resnet50_pipeline.paddleclas.config import render_training_config

    lists = [dataset_parameters.root / f"{split}_list.txt" for split in ("train", "val")]
    document = render_training_config(training_parameters(), dataset_parameters, *lists).to_yaml()
    config = tmp_path / "config.yaml"
    config.write_text(document.replace("pretrained: false", "pretrained: true"))
    with pytest.raises(TrainingConfigError, match="pretrained"):
        read_training_config(config)


@pytest.mark.parametrize("value", ["!!python/object/apply:os.system ['touch {}']", "!!python/name:os.system"])
def test_malicious_yaml(tmp_path: Path, value: str):
    """Fault 43: a YAML that would run code is refused, and nothing is run."""
    trace = tmp_path / "executed"
    config = tmp_path / "config.yaml"
    config.write_text(f"Global:\n  device: {value.format(trace)}\n")
    with pytest.raises(TrainingConfigError):
        read_training_config(config)
    assert not trace.exists()
