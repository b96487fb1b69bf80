"""Training on two machines equals training with two ranks on one machine, and a failure on either ends both.

The two machines are network namespaces, each with its own address and hosts file, connected by a virtual cable. If this
process may not create namespaces, two programs with loopback addresses are used instead.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import re
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

from isolation import can_create_namespaces
from ports import free_port
from resnet50_pipeline.events import EvalEnd, Started, read_events
from resnet50_pipeline.exceptions import RETRY_EXIT_CODE, ParameterError
from resnet50_pipeline.paddleclas.launch.machines import join_training, resolve_master
from resnet50_pipeline.parameters import LaunchParameters, TrainingParameters
from resnet50_pipeline.training_dir import checkpoint_paths, events_path
from stub_ranks import wait_for
from training_driver import run_training, start_training

pytestmark = pytest.mark.slow

_NUMBERS = itertools.count()


@dataclass(frozen=True)
class Machine:
    """A machine: its command prefix, its address, and Gloo's name for its network interface."""

    before: tuple[str, ...]
    address: str
    network: str


def run_command(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


@pytest.fixture
def machines() -> Iterator[tuple[Machine, Machine]]:
    """Two machines: network namespaces, or loopback addresses if this user may not create namespaces."""
    if not can_create_namespaces():
        yield Machine((), "127.0.0.1", "lo"), Machine((), "127.0.0.1", "lo")
        return
    names = [f"rn50-{os.getpid()}-{next(_NUMBERS)}" for _ in range(2)]
    addresses = ["10.77.0.1", "10.77.0.2"]
    try:
        for name in names:
            run_command("ip", "netns", "add", name)
        run_command(
            "ip", "link", "add", "cable0", "netns", names[0], "type", "veth", "peer", "cable1", "netns", names[1]
        )
        created = []
        for number, (name, address) in enumerate(zip(names, addresses, strict=True)):
            run_command("ip", "-n", name, "address", "add", f"{address}/24", "dev", f"cable{number}")
            for device in ("lo", f"cable{number}"):
                run_command("ip", "-n", name, "link", "set", device, "up")
            # `ip netns exec` mounts this file over /etc/hosts, so that the host name resolves to this address.
            hosts = Path("/etc/netns", name, "hosts")
            hosts.parent.mkdir(parents=True)
            hosts.write_text(f"127.0.0.1 localhost\n{address} {socket.gethostname()}\n10.77.0.1 first-machine\n")
            created.append(Machine(("ip", "netns", "exec", name), address, f"cable{number}"))
        yield created[0], created[1]
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)
            shutil.rmtree(Path("/etc/netns", name), ignore_errors=True)


@pytest.fixture
def training_on(machines, training_parameters) -> Callable[..., TrainingParameters]:
    """Return a function that maps a machine's number to its parameters. Keywords override values in `training`."""
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


def rank_processes(output_dir: Path) -> dict[int, psutil.Process]:
    """Return the running ranks of a training run."""
    found = {}
    for process in psutil.process_iter():
        try:
            arguments, rank = process.cmdline(), process.environ().get("PADDLE_TRAINER_ID")
        except psutil.Error:
            continue
        if rank is not None and any(argument.startswith(str(output_dir)) for argument in arguments):
            found[int(rank)] = process
    return found


def test_two_machines_match_one_machine(machines, training_on, training_parameters, striped_dataset, tmp_path):
    """One rank on each of two machines produces the same weights, bit for bit, as two ranks on one machine.

    Machine 1 writes only its heartbeat to the folder, and exits successfully.
    """
    alone = training_parameters(output_dir=tmp_path / "alone", ranks=2)
    run_training(alone, striped_dataset)
    first = start_training(training_on(0), striped_dataset, before=machines[0].before)
    second = start_training(training_on(1), striped_dataset, "join", before=machines[1].before)
    stderr = [process.communicate(timeout=200)[1] for process in (first, second)]
    assert (first.returncode, second.returncode) == (0, 0), stderr

    output_dir = training_on(0).output_dir
    weights = [
        load_file(checkpoint_paths(folder)[-1] / "weights.safetensors") for folder in (alone.output_dir, output_dir)
    ]
    assert weights[0].keys() == weights[1].keys()
    for name, array in weights[0].items():
        np.testing.assert_array_equal(array, weights[1][name], err_msg=name)
    events = read_events(events_path(output_dir))
    assert [event.ranks for event in events if isinstance(event, Started)] == [2]
    expected = read_events(events_path(alone.output_dir))
    assert [e.loss for e in events if isinstance(e, EvalEnd)] == [e.loss for e in expected if isinstance(e, EvalEnd)]
    logs = tmp_path / "training.machines" / "machine-1"
    assert (logs / "workerlog.0").exists()
    assert not (output_dir / "log" / "workerlog.1").exists()


@pytest.mark.exhaustive
def test_virtual_ranks_on_two_machines(machines, training_on, training_parameters, striped_dataset, tmp_path):
    """With virtual ranks, one rank on each of two machines writes the same files as one rank on one machine."""
    recipe = {"virtual_ranks": 4, "batch_size_per_rank": 3, "ema_decay": 0.8}
    alone = training_parameters(output_dir=tmp_path / "alone", ranks=1, **recipe)
    run_training(alone, striped_dataset)
    programs = [
        start_training(training_on(rank, **recipe), striped_dataset, what, before=machines[rank].before)
        for rank, what in ((0, "train"), (1, "join"))
    ]
    stderr = [process.communicate(timeout=200)[1] for process in programs]
    assert [process.returncode for process in programs] == [0, 0], stderr
    digests = [
        {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest()
            for path in checkpoint_paths(folder)[-1].glob("*.safetensors")
        }
        for folder in (alone.output_dir, training_on(0).output_dir)
    ]
    assert len(digests[0]) == 3
    assert digests[0] == digests[1]


@pytest.mark.parametrize("victim", [pytest.param(0, marks=pytest.mark.exhaustive), 1])
def test_killed_rank_ends_both_machines(machines, training_on, striped_dataset, victim: int):
    """If a rank is killed, both machines stop and report the machine, the rank and the signal."""
    programs = [
        start_training(training_on(rank, epochs=200), striped_dataset, what, before=machines[rank].before)
        for rank, what in ((0, "train"), (1, "join"))
    ]
    output_dir = training_on(0).output_dir
    wait_for(lambda: checkpoint_paths(output_dir), seconds=180)
    rank_processes(output_dir)[victim].kill()
    stderr = [program.communicate(timeout=60)[1] for program in programs]
    assert [program.returncode for program in programs] == [RETRY_EXIT_CODE] * 2, stderr
    assert f"rank {victim} ended with signal SIGKILL" in stderr[victim]
    other = stderr[1 - victim]
    assert f"machine {victim}: RankFailedError: rank {victim} ended with signal SIGKILL" in other
    assert not rank_processes(output_dir)


def flip_bit(dataset: Path) -> Path:
    """Flip one bit of a train image, which does not change the file's size."""
    path = dataset / "train" / "n00000000" / "n00000000_3.JPEG"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    return path


def cut_val_image(dataset: Path) -> Path:
    """Cut the last byte off a val image."""
    path = dataset / "val" / "n00000002" / "n00000002_6.JPEG"
    path.write_bytes(path.read_bytes()[:-1])
    return path


def delete_image(dataset: Path) -> Path:
    """Delete a train image."""
    path = dataset / "train" / "n00000001" / "n00000001_5.JPEG"
    path.unlink()
    return path


def reorder_list(dataset: Path) -> Path:
    """Swap two lines of the train list."""
    path = dataset / "train_list.txt"
    first, second, *rest = path.read_text().splitlines(keepends=True)
    path.write_text("".join([second, first, *rest]))
    return path


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (flip_bit, "has different content"),
        pytest.param(cut_val_image, r"has [\d,]+ bytes, not [\d,]+;", marks=pytest.mark.exhaustive),
        pytest.param(delete_image, "is missing", marks=pytest.mark.exhaustive),
        (reorder_list, "differs "),
    ],
)
def test_different_copy_of_the_dataset_is_rejected(  # noqa: PLR0917 - fixtures and a table
    machines, training_on, striped_dataset, tmp_path, change, problem
):
    """If the datasets on machines 0 and 1 differ, both machines stop before training and name the first difference.

    The dataset is given as a relative path, and each machine has its own working directory with a copy of it.
    """
    folders = [tmp_path / "cwd-0", tmp_path / "cwd-1"]
    for folder in folders:
        shutil.copytree(striped_dataset, folder / "dataset")
    changed = change(folders[1] / "dataset").relative_to(folders[1])
    programs = [
        start_training(training_on(rank), Path("dataset"), what, before=machines[rank].before, parameters_in=folder)
        for rank, what, folder in ((0, "train", folders[0]), (1, "join", folders[1]))
    ]
    stderr = [program.communicate(timeout=200)[1] for program in programs]
    assert [program.returncode for program in programs] == [1, 1], stderr
    assert re.search(f"^error: {changed} {problem}", stderr[1], re.MULTILINE), stderr
    assert re.search(f"machine 1: DatasetError: {changed} {problem}", stderr[0]), stderr
    assert not checkpoint_paths(training_on(0).output_dir)


@pytest.mark.exhaustive
def test_stop_on_machine_0_ends_both_machines(machines, training_on, striped_dataset):
    """Ctrl-C on machine 0 ends the ranks of machine 1 too."""
    programs = [
        start_training(training_on(rank, epochs=200), striped_dataset, what, before=machines[rank].before)
        for rank, what in ((0, "train"), (1, "join"))
    ]
    output_dir = training_on(0).output_dir
    wait_for(lambda: checkpoint_paths(output_dir), seconds=180)
    programs[0].terminate()
    stderr = [program.communicate(timeout=90)[1] for program in programs]
    # Machine 1 stops because its rank stops with the others, or because machine 0 reports it.
    assert programs[0].returncode == 143, stderr
    assert programs[1].returncode in (143, RETRY_EXIT_CODE), stderr
    assert "stopped by SIGTERM" in stderr[1]
    assert not rank_processes(output_dir)


@pytest.mark.exhaustive
def test_stopped_rank_on_another_machine_is_detected(machines, training_on, striped_dataset):
    """If SIGSTOP stops a rank on machine 1, the error identifies the rank, and both machines stop."""

    def with_short_timeout(rank: int) -> TrainingParameters:
        training = training_on(rank, epochs=500)
        launch = training.launch.model_copy(update={"hang_timeout_seconds": 15.0})
        return training.model_copy(update={"launch": launch})

    programs = [
        start_training(with_short_timeout(rank), striped_dataset, what, before=machines[rank].before)
        for rank, what in ((0, "train"), (1, "join"))
    ]
    output_dir = training_on(0).output_dir
    wait_for(lambda: checkpoint_paths(output_dir), seconds=180)
    rank_processes(output_dir)[1].suspend()
    stderr = [program.communicate(timeout=120)[1] for program in programs]
    assert [program.returncode for program in programs] == [RETRY_EXIT_CODE] * 2, stderr
    assert re.search(r"rank 1 hangs .*SIGSTOP", stderr[0] + stderr[1])
    assert not rank_processes(output_dir)


@pytest.mark.parametrize("rank", [0, 1])
def test_missing_machine_is_reported(machines, training_on, striped_dataset, rank: int):
    """A timeout while waiting for another machine is reported as such, not as a hanging rank."""
    training = training_on(rank)
    launch = training.launch.model_copy(update={"hang_timeout_seconds": 12.0})
    training = training.model_copy(update={"launch": launch})
    process = start_training(training, striped_dataset, "join" if rank else "train", before=machines[rank].before)
    _, stderr = process.communicate(timeout=90)
    assert process.returncode == 1
    assert "12 s (training.launch.hang_timeout_seconds)" in stderr
    assert "hangs" not in stderr
    assert "training.launch.master" in stderr


@pytest.fixture
def etcd(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """The `master` address of a running etcd server. ETCD3_PATH contains the client for Paddle's launcher."""
    if shutil.which("etcd") is None or "ETCD3_PATH" not in os.environ:
        pytest.skip("needs the program etcd, and etcd3 in ETCD3_PATH (docs/multi-node.md)")
    client, peer = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
    command = ["etcd", "--data-dir", str(tmp_path / "etcd"), "--listen-peer-urls", peer]
    command += ["--listen-client-urls", client, "--advertise-client-urls", client]
    with (tmp_path / "etcd.log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        yield client.replace("http", "etcd"), os.environ["ETCD3_PATH"]
        process.kill()


def test_elastic_training_continues_without_a_machine(etcd, training_parameters, striped_dataset):
    """If one of two machines is lost, the ranks of the other restart from the newest set.

    If the machine with Kedro is then stopped, a machine that has joined in the meantime stops too.
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

    def starts() -> list[tuple[int, bool]]:
        events = read_events(events_path(training.output_dir))
        return [(event.ranks, event.first_step > 0) for event in events if isinstance(event, Started)]

    programs = [start_training(training, striped_dataset, what) for what in ("train", "join")]
    try:
        wait_for(lambda: starts() and checkpoint_paths(training.output_dir), seconds=180)
        assert starts() == [(2, False)]
        programs[1].kill()
        wait_for(lambda: len(starts()) > 1, seconds=180)
        assert starts()[1] == (1, True)
        programs.append(start_training(training, striped_dataset, "join"))
        wait_for(lambda: len(starts()) > 2, seconds=180)
        assert starts()[2] == (2, True)
        programs[0].terminate()
        assert programs[0].wait(timeout=90) == 143
        _, stderr = programs[2].communicate(timeout=90)
        assert programs[2].returncode == RETRY_EXIT_CODE
        assert "machine 0: RunInterruptedError: stopped by SIGTERM" in stderr
        assert not rank_processes(training.output_dir)
    finally:
        for program in programs:
            program.kill()
            program.communicate()


def test_port_in_use_is_named(training_parameters):
    """Fault 33: if the port of `master` is in use, the error reports the port and its process."""
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = taken.getsockname()[1]
        launch = LaunchParameters(device="cpu", devices=(0,), nnodes=2, master=f"127.0.0.1:{port}")
        with pytest.raises(ParameterError, match=rf"port {port} is in use by process {os.getpid()} \("):
            resolve_master(launch)


def test_join_on_only_machine_is_rejected(training_parameters):
    """`kedro join` on the only machine is rejected."""
    training = training_parameters()
    with pytest.raises(ParameterError, match="kedro join"):
        join_training(training.launch, training.output_dir)


def test_master_is_resolved_to_an_address():
    """`master` becomes an address, because Paddle compares it as a string."""
    launch = LaunchParameters(device="cpu", devices=(0,), nnodes=2, master=f"localhost:{free_port()}")
    first = resolve_master(launch)
    assert first.master == f"127.0.0.1:{launch.master.split(':')[1]}"
    assert first.host == "127.0.0.1"
    other = resolve_master(launch.model_copy(update={"rank": 1}))
    assert (other.master, other.host) == (launch.master, None)
    elsewhere = launch.model_copy(update={"rank": 1, "master": "192.0.2.1:1234"})
    assert resolve_master(elsewhere).master == "192.0.2.1:1234"
    nowhere = launch.model_copy(update={"rank": 1, "master": "no-such-host.invalid:1234"})
    with pytest.raises(ParameterError, match=r"no-such-host\.invalid"):
        resolve_master(nowhere)
