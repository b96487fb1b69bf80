"""The checks of memory, files, clock and libraries show the required amount, its formula and a remedy."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from resnet50_pipeline.parameters import TrainingParameters
from resnet50_pipeline.preflight import machine

MIB = 2**20


@pytest.fixture
def imagenet_like(training_parameters: Callable[..., TrainingParameters]) -> TrainingParameters:
    """Four ranks, each with four loader processes and batches of 64 images of 224 x 224 pixels."""
    return training_parameters(
        ranks=4,
        batch_size_per_rank=64,
        eval_batch_size_per_rank=64,
        train_transform={"size": 224},
        eval_transform={"resize_short": 256, "size": 224},
        loader={"num_workers": 4},
    )


def with_upstream(training: TrainingParameters) -> TrainingParameters:
    """Return the parameters for the PaddleClas engine, whose loaders need /dev/shm."""
    return training.model_copy(update={"engine": "paddleclas"})


def test_the_test_machine_passes():
    """Python, OpenCV and the file name encoding pass on the machine that runs the tests."""
    assert machine.check_python().status == "ok"
    assert machine.check_opencv().status == "ok"
    assert machine.check_encoding().status == "ok"


def test_shared_memory_holds_the_prefetched_batches(imagenet_like):
    """PaddleClas needs ranks x (2 x workers + 1) x batch. The native engine needs this for training plus evaluation."""
    expected = 4 * 9 * 64 * (3 * 224 * 224 * 4 + 16)
    assert machine.shared_memory_bytes(with_upstream(imagenet_like)) == expected
    assert machine.shared_memory_bytes(imagenet_like) == 2 * expected


def test_the_larger_batch_counts(training_parameters):
    """With PaddleClas, the required size of /dev/shm depends on the larger of the training and evaluation batches."""
    training = training_parameters(
        batch_size_per_rank=2, eval_batch_size_per_rank=8, loader={"num_workers": 1}, train_transform={"size": 32}
    )
    assert machine.shared_memory_bytes(with_upstream(training)) == 3 * 8 * (3 * 32 * 32 * 4 + 16)


def test_the_default_shm_of_docker_is_too_small_for_paddleclas(imagenet_like, make_disk):
    """64 MiB is a blocking finding. The remedy adds a quarter to the required 1.29 GiB and rounds up to 2g."""
    finding = machine.check_shared_memory(with_upstream(imagenet_like), make_disk(64))
    assert finding.status == "blocking"
    assert finding.found == "64 MiB free"
    assert finding.needed.startswith("1.29 GiB ")
    assert "docker run --shm-size=2g" in finding.remedy
    assert "training.loader.num_workers" in finding.remedy


def test_shared_memory_is_not_needed_without_loader_processes(training_parameters, tmp_path):
    """Neither ranks without loader processes nor the native engine need /dev/shm."""
    alone = with_upstream(training_parameters())
    native = training_parameters(loader={"num_workers": 4})
    for training in (alone, native):
        assert machine.check_shared_memory(training, tmp_path / "nowhere").status == "ok"


def test_missing_shared_memory_blocks_paddleclas(imagenet_like, tmp_path):
    """If the loaders need /dev/shm and it is not mounted, the finding is blocking."""
    finding = machine.check_shared_memory(with_upstream(imagenet_like), tmp_path / "nowhere")
    assert finding.status == "blocking"
    assert str(tmp_path / "nowhere") in finding.found


def test_the_limit_of_a_container_counts_instead_of_the_memory_of_the_machine(training_parameters, tmp_path):
    """The finding shows the 400 MiB that remain of the control group's limit, not the machine's memory."""
    (tmp_path / "memory.max").write_text(f"{600 * MIB}\n")
    (tmp_path / "memory.current").write_text(f"{200 * MIB}\n")
    available, suffix = machine.available_memory(tmp_path)
    assert available == 400 * MIB
    assert suffix
    finding = machine.check_memory(training_parameters(), tmp_path)
    assert finding.status == "warning"
    assert finding.found.startswith("400 MiB ")


def test_without_a_container_limit_the_memory_of_the_machine_counts(tmp_path):
    """Neither `max` nor a missing control group limits the memory."""
    (tmp_path / "memory.max").write_text("max\n")
    assert machine.available_memory(tmp_path)[1] == ""
    assert machine.available_memory(tmp_path / "nowhere")[1] == ""


def test_a_low_limit_of_open_files_blocks(imagenet_like):
    """A limit of 256 files is too low for a rank with 2 x 4 loader processes. The remedy is a ulimit command."""
    finding = machine.check_open_files(imagenet_like, limit=256)
    assert finding.status == "blocking"
    assert finding.found.startswith("256 ")
    assert finding.needed.startswith("512 ")
    assert finding.remedy.startswith("ulimit -n 4096")
    assert machine.check_open_files(imagenet_like, limit=512).status == "ok"


def test_more_threads_than_processors_are_a_warning(imagenet_like, training_parameters):
    """Too few processors make a run slow, but do not block it."""
    processors = len(os.sched_getaffinity(0))
    launch = {"device": "cpu", "devices": [0], "threads_per_rank": processors + 1}
    assert machine.check_processors(training_parameters(launch=launch)).status == "warning"
    launch["threads_per_rank"] = 1
    assert machine.check_processors(training_parameters(launch=launch)).status == "ok"


def test_a_missing_workspace_is_checked_through_its_nearest_parent(tmp_path):
    """The workspace check does not create the workspace."""
    assert machine.check_clock(tmp_path / "a" / "b").status == "ok"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder that root cannot write to")
def test_a_read_only_workspace_blocks():
    """A workspace that is not writable, such as /proc, is a blocking finding."""
    finding = machine.check_clock(Path("/proc/self/nowhere"))
    assert finding.status == "blocking"
    assert "globals.yml" in finding.remedy
