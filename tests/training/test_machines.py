"""A training on two machines is the training of as many ranks on one, and an end on one machine is known on the other.

Two machines are two network namespaces, each with an address and a hosts file of its own, joined by a cable of the
kernel's; where this process may not make them, two programs on one machine that meet at a loopback address.
"""

from __future__ import annotations

import itertools
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from safetensors.numpy import load_file

from isolation import can_make_machines
from resnet50_pipeline.events import EvalEnd, Started, read_events
from resnet50_pipeline.exceptions import ParameterError
from resnet50_pipeline.paddleclas.machines import join_training, meeting_place
from resnet50_pipeline.parameters import LaunchParameters, TrainingParameters
from resnet50_pipeline.training_dir import checkpoint_paths, events_path
from stub_ranks import wait_for
from training_driver import run_training, start_training

pytestmark = pytest.mark.slow

_NUMBERS = itertools.count()


@dataclass(frozen=True)
class Machine:
    """Where a command runs: the words before it, its address, and Gloo's name of the network there."""

    before: tuple[str, ...]
    address: str
    network: str


def shell(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True)


@pytest.fixture(params=["loopback", "namespaces"])
def machines(request, tmp_path: Path) -> Iterator[tuple[Machine, Machine]]:
    """Two machines; nothing of them is left afterwards."""
    if request.param == "loopback":
        yield Machine((), "127.0.0.1", "lo"), Machine((), "127.0.0.1", "lo")
        return
    if not can_make_machines():
        pytest.skip("this user may not make network namespaces; the same test runs on loopback addresses")
    names = [f"rn50-{os.getpid()}-{next(_NUMBERS)}" for _ in range(2)]
    addresses = ["10.77.0.1", "10.77.0.2"]
    try:
        for name in names:
            shell("ip", "netns", "add", name)
        shell("ip", "link", "add", "cable0", "netns", names[0], "type", "veth", "peer", "cable1", "netns", names[1])
        made = []
        for number, (name, address) in enumerate(zip(names, addresses, strict=True)):
            shell("ip", "-n", name, "address", "add", f"{address}/24", "dev", f"cable{number}")
            for device in ("lo", f"cable{number}"):
                shell("ip", "-n", name, "link", "set", device, "up")
            # `ip netns exec` puts these in the place of /etc/hosts: here the host's name leads to this address.
            hosts = Path("/etc/netns", name, "hosts")
            hosts.parent.mkdir(parents=True)
            hosts.write_text(f"127.0.0.1 localhost\n{address} {socket.gethostname()}\n10.77.0.1 first-machine\n")
            made.append(Machine(("ip", "netns", "exec", name), address, f"cable{number}"))
        yield made[0], made[1]
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)
            shutil.rmtree(Path("/etc/netns", name), ignore_errors=True)


@pytest.fixture
def training_on(machines, training_parameters) -> Callable[..., TrainingParameters]:
    """A function from the number of a machine to its parameters; further arguments replace values of `training`."""
    port = free_port()

    def build(rank: int, **changes: Any) -> TrainingParameters:
        training = training_parameters(**changes)
        several = {
            "devices": (0,),
            "nnodes": 2,
            "master": f"{machines[0].address}:{port}",
            "rank": rank,
            "environment": {**training.launch.environment, "GLOO_SOCKET_IFNAME": machines[rank].network},
        }
        return training.model_copy(update={"launch": LaunchParameters(**(training.launch.model_dump() | several))})

    return build


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def rank_processes(output_dir: Path) -> dict[int, psutil.Process]:
    """Return the living ranks of a training."""
    found = {}
    for process in psutil.process_iter():
        try:
            words, rank = process.cmdline(), process.environ().get("PADDLE_TRAINER_ID")
        except psutil.Error:
            continue
        if rank is not None and any(word.startswith(str(output_dir)) for word in words):
            found[int(rank)] = process
    return found


def test_two_machines_train_what_one_would(machines, training_on, training_parameters, striped_dataset, tmp_path):
    """One rank on each of two machines: weights and evaluation are those of two ranks on one, bit for bit.

    Machine 1 writes nothing into the folder but its heartbeat, and ends well by itself.
    """
    alone = training_parameters(output_dir=tmp_path / "alone", ranks=2)
    run_training(alone, striped_dataset)
    first = start_training(training_on(0), striped_dataset, before=machines[0].before)
    second = start_training(training_on(1), striped_dataset, "join", before=machines[1].before)
    words = [process.communicate(timeout=200)[1] for process in (first, second)]
    assert (first.returncode, second.returncode) == (0, 0), words

    output_dir = training_on(0).output_dir
    weights = [
        load_file(checkpoint_paths(folder)[-1] / "weights.safetensors") for folder in (alone.output_dir, output_dir)
    ]
    assert weights[0].keys() == weights[1].keys()
    for name, array in weights[0].items():
        np.testing.assert_array_equal(array, weights[1][name], err_msg=name)
    events, _ = read_events(events_path(output_dir))
    assert [event.ranks for event in events if isinstance(event, Started)] == [2]
    expected, _ = read_events(events_path(alone.output_dir))
    assert [e.loss for e in events if isinstance(e, EvalEnd)] == [e.loss for e in expected if isinstance(e, EvalEnd)]
    logs = tmp_path / "training.machines" / "machine-1"
    assert (logs / "workerlog.0").exists()
    assert not (output_dir / "log" / "workerlog.1").exists()


@pytest.mark.parametrize("victim", [0, 1])
def test_a_rank_that_is_killed_ends_both_machines(machines, training_on, striped_dataset, victim: int):
    """SIGKILL of one machine's rank: both machines say which machine, which rank and which signal, and end."""
    programs = [
        start_training(training_on(rank, epochs=200), striped_dataset, what, before=machines[rank].before)
        for rank, what in ((0, "train"), (1, "join"))
    ]
    output_dir = training_on(0).output_dir
    wait_for(lambda: checkpoint_paths(output_dir), seconds=180)
    rank_processes(output_dir)[victim].kill()
    words = [program.communicate(timeout=60)[1] for program in programs]
    assert [program.returncode for program in programs] == [1, 1], words
    assert f"rank {victim} ended with signal SIGKILL" in words[victim]
    other = words[1 - victim]
    assert f"machine {victim}: RankFailedError: rank {victim} ended with signal SIGKILL" in other
    assert not rank_processes(output_dir)


def test_a_stop_on_machine_0_ends_both(machines, training_on, striped_dataset):
    """Ctrl-C on machine 0 ends the ranks of machine 1 too."""
    programs = [
        start_training(training_on(rank, epochs=200), striped_dataset, what, before=machines[rank].before)
        for rank, what in ((0, "train"), (1, "join"))
    ]
    output_dir = training_on(0).output_dir
    wait_for(lambda: checkpoint_paths(output_dir), seconds=180)
    programs[0].terminate()
    words = [program.communicate(timeout=90)[1] for program in programs]
    # Machine 1 learns it from its rank, which has stopped with the others, or from machine 0.
    assert programs[0].returncode == 143, words
    assert programs[1].returncode in (143, 1), words
    assert "stopped by SIGTERM" in words[1]
    assert not rank_processes(output_dir)


def test_a_stopped_rank_on_another_machine_is_noticed(machines, training_on, striped_dataset):
    """SIGSTOP of machine 1's rank: the watchdog of a machine names it, and both end."""

    def impatient(rank: int) -> TrainingParameters:
        training = training_on(rank, epochs=500)
        launch = training.launch.model_copy(update={"hang_timeout_seconds": 15.0})
        return training.model_copy(update={"launch": launch})

    programs = [
        start_training(impatient(rank), striped_dataset, what, before=machines[rank].before)
        for rank, what in ((0, "train"), (1, "join"))
    ]
    output_dir = training_on(0).output_dir
    wait_for(lambda: checkpoint_paths(output_dir), seconds=180)
    rank_processes(output_dir)[1].suspend()
    words = [program.communicate(timeout=120)[1] for program in programs]
    assert [program.returncode for program in programs] == [1, 1], words
    assert "rank 1 hangs (it is stopped" in words[0] + words[1]
    assert not rank_processes(output_dir)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_machine_that_does_not_come_is_missed(machines, training_on, striped_dataset, rank: int):
    """Whoever waits for another machine says so when the time is over, and not that a rank hangs."""
    training = training_on(rank)
    launch = training.launch.model_copy(update={"hang_timeout_seconds": 12.0})
    training = training.model_copy(update={"launch": launch})
    process = start_training(training, striped_dataset, "join" if rank else "train", before=machines[rank].before)
    _, words = process.communicate(timeout=90)
    assert process.returncode == 1
    assert "error: no rank was started within 12 s (training.launch.hang_timeout_seconds)" in words
    assert "training.launch.master" in words


@pytest.fixture
def etcd(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """A running etcd's `master`, and where Paddle's launcher finds its client: ETCD3_PATH, a folder of its own."""
    if shutil.which("etcd") is None or "ETCD3_PATH" not in os.environ:
        pytest.skip("needs the program etcd, and etcd3 in ETCD3_PATH (docs/multi-node.md)")
    client, peer = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
    words = ["etcd", "--data-dir", str(tmp_path / "etcd"), "--listen-peer-urls", peer]
    words += ["--listen-client-urls", client, "--advertise-client-urls", client]
    with (tmp_path / "etcd.log").open("wb") as log, subprocess.Popen(words, stdout=log, stderr=log) as process:
        yield client.replace("http", "etcd"), os.environ["ETCD3_PATH"]
        process.kill()


def test_elastic_training_goes_on_without_a_machine(etcd, training_parameters, striped_dataset):
    """A machine of two is lost: Paddle starts the ranks of the other again, which go on from the newest set.

    Then the one with Kedro is asked to stop, and a machine that has joined meanwhile ends too.
    """
    master, client = etcd
    training = training_parameters(epochs=500, save_interval_steps=2, keep_checkpoints=2)
    several = {
        "devices": (0,),
        "nnodes": "1:2",
        "master": master,
        "environment": {**training.launch.environment, "PYTHONPATH": client},
    }
    training = training.model_copy(update={"launch": LaunchParameters(**(training.launch.model_dump() | several))})

    def counts() -> list[tuple[int, bool]]:
        events, _ = read_events(events_path(training.output_dir))
        return [(event.ranks, event.first_step > 0) for event in events if isinstance(event, Started)]

    programs = [start_training(training, striped_dataset, what) for what in ("train", "join")]
    try:
        wait_for(lambda: counts() and checkpoint_paths(training.output_dir), seconds=180)
        assert counts() == [(2, False)]
        programs[1].kill()
        wait_for(lambda: len(counts()) > 1, seconds=180)
        assert counts()[1] == (1, True)
        programs.append(start_training(training, striped_dataset, "join"))
        wait_for(lambda: len(counts()) > 2, seconds=180)
        assert counts()[2] == (2, True)
        programs[0].terminate()
        assert programs[0].wait(timeout=90) == 143
        _, words = programs[2].communicate(timeout=90)
        assert programs[2].returncode == 1
        assert "machine 0: RunInterruptedError: stopped by SIGTERM" in words
        assert not rank_processes(training.output_dir)
    finally:
        for program in programs:
            program.kill()
            program.communicate()


def test_port_in_use_is_named(training_parameters):
    """Fault 33: the port at which machines are to meet is taken: the error names it and who has it, at once."""
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = taken.getsockname()[1]
        launch = LaunchParameters(device="cpu", devices=(0,), nnodes=2, master=f"127.0.0.1:{port}")
        with pytest.raises(ParameterError, match=rf"port {port} is in use by process {os.getpid()} \("):
            meeting_place(launch)


def test_joining_oneself_is_refused(training_parameters):
    """`kedro join` without another machine says what it is for."""
    with pytest.raises(ParameterError, match=r"`kedro join` is for machines 1, 2"):
        join_training(training_parameters())


def test_meeting_place_is_an_address():
    """Paddle compares texts: machine 0's `master` becomes its own address, the others' what the name leads to."""
    launch = LaunchParameters(device="cpu", devices=(0,), nnodes=2, master=f"localhost:{free_port()}")
    first = meeting_place(launch)
    assert first.master == f"127.0.0.1:{launch.master.split(':')[1]}"
    assert first.host == "127.0.0.1"
    other = meeting_place(launch.model_copy(update={"rank": 1}))
    assert (other.master, other.host) == (launch.master, None)
    elsewhere = launch.model_copy(update={"rank": 1, "master": "192.0.2.1:1234"})
    assert meeting_place(elsewhere).master == "192.0.2.1:1234"
    nowhere = launch.model_copy(update={"rank": 1, "master": "no-such-host.invalid:1234"})
    with pytest.raises(ParameterError, match=r"no-such-host\.invalid cannot be resolved"):
        meeting_place(nowhere)
