"""Memory, files, clock and libraries: what is too little is named with its formula and its remedy."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from resnet50_pipeline.exceptions import MissingLibraryError
from resnet50_pipeline.parameters import TrainingParameters
from resnet50_pipeline.preflight import machine

MIB = 2**20


@pytest.fixture
def imagenet_like(training_parameters: Callable[..., TrainingParameters]) -> TrainingParameters:
    """Four ranks with four loader processes each and 64 images of 224 x 224 pixels a batch."""
    return training_parameters(
        ranks=4,
        batch_size_per_rank=64,
        eval_batch_size_per_rank=64,
        train_transform={"size": 224},
        eval_transform={"resize_short": 256, "size": 224},
        loader={"num_workers": 4},
    )


def with_upstream(training: TrainingParameters) -> TrainingParameters:
    """Return the parameters for PaddleClas' engine, whose loaders need /dev/shm."""
    return training.model_copy(update={"engine": "paddleclas"})


def test_missing_libraries_are_named_with_the_commands_that_install_them(monkeypatch):
    """A machine without OpenCV's libraries is told which, and how to install them on both families of systems."""
    monkeypatch.setattr(machine, "SYSTEM_LIBRARIES", {"libnosuch.so.9": ("libnosuch9", "nosuch-libs")})
    with pytest.raises(MissingLibraryError) as caught:
        machine.require_system_libraries()
    assert "OpenCV needs libnosuch.so.9" in str(caught.value)
    assert "apt-get install -y libnosuch9" in str(caught.value)
    assert "dnf install -y nosuch-libs" in str(caught.value)
    finding = machine.check_system_libraries()
    assert finding.status == "blocking"
    assert "apt-get install -y libnosuch9" in finding.remedy


def test_this_machine_has_what_opencv_and_the_project_need():
    """Where the tests run, libraries, Python and the encoding of file names are fine."""
    assert machine.check_system_libraries().status == "ok"
    assert machine.check_python().status == "ok"
    assert machine.check_encoding().status == "ok"


def test_shared_memory_is_asked_for_by_the_batches_under_way(imagenet_like):
    """Ranks x (2 x workers + 1) x batch: 4 x 9 x 64 x (3 x 224 x 224 x 4 + 16) bytes; native, of train and eval."""
    expected = 4 * 9 * 64 * (3 * 224 * 224 * 4 + 16)
    assert machine.shared_memory_bytes(with_upstream(imagenet_like)) == expected
    assert machine.shared_memory_bytes(imagenet_like) == 2 * expected


def test_the_larger_batch_counts(training_parameters):
    """Evaluation with larger batches than training asks for more."""
    training = training_parameters(
        batch_size_per_rank=2, eval_batch_size_per_rank=8, loader={"num_workers": 1}, train_transform={"size": 32}
    )
    assert machine.shared_memory_bytes(with_upstream(training)) == 3 * 8 * (3 * 32 * 32 * 4 + 16)


def test_dockers_own_shared_memory_is_too_small_for_paddles_loaders(imagenet_like, make_disk):
    """64 MiB block the recipe with PaddleClas' engine, with the option that mends it: 1.3 GiB and a quarter are 2g."""
    finding = machine.check_shared_memory(with_upstream(imagenet_like), make_disk(64))
    assert finding.status == "blocking"
    assert finding.found == "64 MiB free"
    assert finding.needed.startswith("1.3 GiB (ranks x (2 x workers + 1) x batch)")
    assert "docker run --shm-size=2g" in finding.remedy
    assert "training.loader.num_workers" in finding.remedy


def test_without_loader_processes_nothing_is_asked_of_shared_memory(training_parameters, tmp_path):
    """A rank that loads by itself runs without /dev/shm, and so do the native engine's loader processes."""
    alone = with_upstream(training_parameters())
    native = training_parameters(loader={"num_workers": 4})
    for training in (alone, native):
        assert machine.check_shared_memory(training, tmp_path / "nowhere").status == "ok"


def test_a_machine_without_shared_memory_is_refused(imagenet_like, tmp_path):
    """Where loaders need it and it is not mounted, that is said."""
    finding = machine.check_shared_memory(with_upstream(imagenet_like), tmp_path / "nowhere")
    assert (finding.status, finding.found) == ("blocking", f"{tmp_path / 'nowhere'} is not there")


def test_a_containers_limit_counts_and_not_the_machines_memory(training_parameters, tmp_path):
    """What a control group still gives is what can be had, and the finding says where it comes from."""
    (tmp_path / "memory.max").write_text(f"{600 * MIB}\n")
    (tmp_path / "memory.current").write_text(f"{200 * MIB}\n")
    assert machine.available_memory(tmp_path) == (400 * MIB, " (container limit)")
    finding = machine.check_memory(training_parameters(), tmp_path)
    assert (finding.status, finding.found) == ("warning", "400 MiB available (container limit)")


def test_a_control_group_without_a_limit_is_the_machine(tmp_path):
    """`max`, or no control group at all, leaves the machine's own memory."""
    (tmp_path / "memory.max").write_text("max\n")
    assert machine.available_memory(tmp_path)[1] == ""
    assert machine.available_memory(tmp_path / "nowhere")[1] == ""


def test_a_low_limit_of_open_files_names_the_one_to_set(imagenet_like):
    """256 files do not do for a rank with 2 x 4 loader processes; the shell's own command raises the limit."""
    finding = machine.check_open_files(imagenet_like, limit=256)
    assert (finding.status, finding.found) == ("blocking", "256 a process")
    assert finding.needed.startswith("512 ")
    assert finding.remedy.startswith("ulimit -n 4096")
    assert machine.check_open_files(imagenet_like, limit=512).status == "ok"


def test_more_threads_than_processors_are_a_warning(imagenet_like, training_parameters):
    """Slow is not wrong: the run may start."""
    processors = len(os.sched_getaffinity(0))
    launch = {"device": "cpu", "devices": [0], "threads_per_rank": processors + 1}
    assert machine.check_processors(training_parameters(launch=launch)).status == "warning"
    launch["threads_per_rank"] = 1
    assert machine.check_processors(training_parameters(launch=launch)).status == "ok"


def test_a_workspace_that_is_not_there_yet_is_judged_by_the_folder_above_it(tmp_path):
    """Nothing is made to find out whether it could be."""
    assert machine.check_clock(tmp_path / "a" / "b").status == "ok"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="there is no folder that root cannot write to")
def test_a_workspace_that_cannot_be_written_to_is_refused():
    """Root, too, cannot write to /proc."""
    finding = machine.check_clock(Path("/proc/self/nowhere"))
    assert finding.status == "blocking"
    assert "globals.yml" in finding.remedy
