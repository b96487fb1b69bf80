"""Tests faults 35 and 36: kills at any step of writing a set, full disks, and incomplete sets."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from isolation import mounting
from resnet50_pipeline.exceptions import CheckpointError
from training_driver import start_training

pytestmark = pytest.mark.slow  # imports Paddle

# Imports Paddle once and forks. Each child process writes the set of step 2 next to that of step 1 and is killed.
WRITER = """
import json, os, pathlib, resource, signal, sys
import numpy as np
import resnet50_pipeline.files as files
from isolation import mounting
from resnet50_pipeline.exceptions import CheckpointError
from resnet50_pipeline.checkpoint_set import Snapshot, TrainingState, read_state
from resnet50_pipeline.trainer.checkpoints.saver import CheckpointSaver
from resnet50_pipeline.training_dir import checkpoint_paths

root, how = pathlib.Path(sys.argv[1]), sys.argv[2]

def snapshot(epoch):
    arrays = {"weight": np.full((64, 1024), epoch, np.float32), "bias": np.full(64, epoch, np.float32)}
    state = TrainingState(epoch=epoch, step=epoch, step_in_epoch=0, steps_per_epoch=1, ranks=1, best_epoch=epoch,
                          best_top1=epoch / 9, schedule={}, recipe={}, paddle_version="")
    return Snapshot(state, {"weights.safetensors": arrays, "optimizer.safetensors": arrays})

def save(folder, epoch):
    saver = CheckpointSaver(folder, keep=1)
    saver.save(snapshot(epoch), is_best=True, stall_seconds=0.0)
    saver.wait()

# Python's audit events for the file operations of a save, starting with the set's own. fsync has no event.
STEPS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree"}
counted = 0

def step(name, arguments=()):
    global counted
    if name not in STEPS or (name == "open" and arguments[1] in ("r", "rb")):
        return
    counted += 1
    if counted == deadly:
        os.kill(os.getpid(), signal.SIGKILL)

def die_at(number):
    global deadly
    deadly = number
    fsync = os.fsync
    STEPS.add("fsync")
    os.fsync = lambda descriptor: (step("fsync"), fsync(descriptor), step("fsync"))
    sys.addaudithook(step)

def die_at_byte(number):
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # Python ignores it, and would see an error instead
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (number, number))

def stop_at_byte(number):
    resource.setrlimit(resource.RLIMIT_FSIZE, (number, number))

prepare = {"step": die_at, "byte": die_at_byte, "error": stop_at_byte}[how]
results = []
for number in range(1, 500) if how == "step" else (0, 1, 100, 4096, 200_000, 262_000, 262_500):
    folder = root / f"{how}-{number}"
    save(folder, 1)
    child = os.fork()
    if child == 0:
        prepare(number)
        code = 0
        try:
            save(folder, 2)
        except CheckpointError as error:
            code = 3 if str(folder) in str(error) else 4
        os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    newest = read_state(checkpoint_paths(folder)[-1])
    best = json.loads((folder / "best.json").read_text())
    best_state = read_state(folder / best["checkpoint"])
    CheckpointSaver(folder, keep=1)  # the first thing that a resumed run does
    left = [str(path.relative_to(folder)) for path in folder.rglob(".*")]
    again = read_state(checkpoint_paths(folder)[-1]).epoch
    results.append({"number": number, "code": code, "newest": newest.epoch, "best": best_state.epoch, "left": left,
                    "again": again})
    if how == "step" and code == 0:
        break
print(json.dumps(results))
"""


def results_of(how: str, folder: Path) -> list[dict]:
    done = subprocess.run(
        [sys.executable, "-c", WRITER, str(folder), how],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    found: list[dict] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_newest_set_is_complete_after_kill_at_any_file_operation(tmp_path: Path):
    """Fault 35: if the process is killed at any file operation, the newest set is complete.

    `best.json` also refers to a complete set, and the resumed run finds no partial files.
    """
    results = results_of("step", tmp_path)
    assert [one["code"] for one in results] == [-9] * (len(results) - 1) + [0]
    assert len(results) > 20
    assert all(one["newest"] in (1, 2) and one["best"] in (1, 2) for one in results)
    # If a kill comes after the rename, the new set is the newest. Some kills come before the rename, and some after it.
    assert [one["newest"] for one in results] == sorted(one["newest"] for one in results)
    assert {one["newest"] for one in results} == {1, 2}
    assert [one["again"] for one in results] == [one["newest"] for one in results]
    assert all(one["left"] == [] for one in results)


def test_newest_set_is_complete_after_kill_at_any_byte(tmp_path: Path):
    """Fault 35: the newest set is complete after a kill at any byte of a file."""
    results = results_of("byte", tmp_path)
    assert {one["code"] for one in results} == {-25}  # SIGXFSZ
    assert all((one["newest"], one["best"], one["left"]) == (1, 1, []) for one in results)


def test_file_size_limit_raises_checkpoint_error(tmp_path: Path):
    """Fault 35: if a file cannot grow, CheckpointError is raised and earlier sets are kept."""
    results = results_of("error", tmp_path)
    assert {one["code"] for one in results} == {3}
    assert all((one["newest"], one["best"], one["left"]) == (1, 1, []) for one in results)


def test_run_fails_on_full_disk_and_resumes(dataset_parameters, training_parameters, tmp_path: Path):
    """Fault 35: on a full file system, the run fails and keeps its sets. It resumes once there is space."""
    disk = tmp_path / "disk"
    disk.mkdir()
    # A ResNet18 set with its optimizer is 90 MB and best.pdparams is 45 MB, so two sets do not fit.
    command = mounting(f'mount -t tmpfs -o size=170m tmpfs {disk} && "$@"; code=$?; ls -A {disk}/*/*; exit $code')
    if command is None:
        pytest.skip("this user may not mount a small file system; the tests above limit the file size instead")
    training = training_parameters(output_dir=disk / "training", epochs=3)
    process = start_training(training, dataset_parameters.root, before=command, parameters_in=tmp_path)
    listing, stderr = process.communicate(timeout=200)
    assert process.returncode == 1, stderr
    assert "epoch-0002" in stderr
    assert "No space left on device" in stderr

    assert "epoch-0001" in listing
    assert "epoch-0002" not in listing


@pytest.fixture
def sets(tmp_path: Path) -> Path:
    """A training folder with the complete sets of epochs 1 and 2."""
    import numpy as np

    from resnet50_pipeline.checkpoint_set import Snapshot, TrainingState, save_checkpoint
    from resnet50_pipeline.training_dir import checkpoint_path

    for epoch in (1, 2):
        arrays = {"weight": np.full((8, 8), epoch, np.float32)}
        state = TrainingState(epoch, epoch, 0, 1, 1, epoch, 0.5, {}, {}, "")
        files = {"weights.safetensors": arrays, "optimizer.safetensors": arrays}
        save_checkpoint(checkpoint_path(tmp_path, epoch), Snapshot(state, files))
    return tmp_path


def delete(path: Path, _other: Path) -> None:
    path.unlink()


def flip_bit(path: Path, _other: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(path: Path, _other: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def replace_by_other(path: Path, other: Path) -> None:
    shutil.copy(other, path)


@pytest.mark.parametrize("damage", [delete, flip_bit, truncate, replace_by_other])
@pytest.mark.parametrize("name", ["weights.safetensors", "optimizer.safetensors", "state.json", "MANIFEST.json"])
def test_incomplete_set_is_named(sets: Path, damage: Callable[[Path, Path], None], name: str):
    """Fault 36: if a file is missing, damaged or from another set, the error names the file and the previous set."""
    from resnet50_pipeline.checkpoint_set import read_state
    from resnet50_pipeline.training_dir import checkpoint_path

    newest, before = checkpoint_path(sets, 2), checkpoint_path(sets, 1)
    damage(newest / name, before / name)
    with pytest.raises(CheckpointError) as caught:
        read_state(newest)
    # With another set's manifest or a damaged digest, the error identifies the first file that does not match.
    named = name if name != "MANIFEST.json" or damage in (delete, truncate) else ""
    assert str(newest / named) in str(caught.value)
    assert before.name in str(caught.value)
    assert "delete" not in str(caught.value)
    assert read_state(before).epoch == 1
