"""`kedro data-doctor` reports DVC's locks and damaged files, and its suggested commands fix them."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from repository import Repository

from dvc_clone import Clone
from resnet50_pipeline.commands.dvc.locks import find_lock_file_problems, find_lock_problems, read_stages
from resnet50_pipeline.commands.dvc.outs import find_damaged_objects
from resnet50_pipeline.exceptions import DatasetError
from resnet50_pipeline.processes.locks import find_holder

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

DATA = "data/dvc/01_raw/photos"
DOCTOR = ("kedro", "data-doctor")


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone with prepared lists, a remote, and a committed dvc.lock."""
    clone = Clone.of_working_tree(tmp_path_factory.mktemp("clone"))
    clone.run("dvc", "remote", "add", "--default", "store", str(tmp_path_factory.mktemp("remote")))
    clone.repro("data_preparation")
    clone.commit("v1")
    return clone


@pytest.fixture
def photos(clone: Clone) -> Iterator[Path]:
    """A folder with enough files to keep `dvc add` busy for a second."""
    folder = clone.root / DATA
    folder.mkdir(parents=True)
    for number in range(3000):
        (folder / f"{number}.bin").write_bytes(b"%06d" % number * 100)
    yield folder
    shutil.rmtree(folder)
    (clone.root / f"{DATA}.dvc").unlink(missing_ok=True)


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Wait until a condition is true while the process runs."""
    while not condition():
        assert process.poll() is None, "the process ended before the condition was true"
        time.sleep(0.01)


def holds_repository_lock(clone: Clone) -> bool:
    """Return whether a process holds DVC's lock on the repository."""
    holder = find_holder(clone.root / ".dvc" / "tmp" / "lock")
    return holder is not None


def end(process: subprocess.Popen[str]) -> None:
    """Kill the process and its children."""
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def test_the_holder_of_the_lock_is_reported_and_a_retry_succeeds(clone: Clone, photos: Path) -> None:
    """The process that holds the lock during `dvc add` is reported. After it is killed, a second attempt succeeds."""
    adding = clone.start("dvc", "add", DATA, start_new_session=True)
    wait_for(lambda: holds_repository_lock(clone), adding)
    os.killpg(adding.pid, signal.SIGSTOP)
    code, said = clone.fail("dvc", "status", "dvc.yaml")
    assert code != 0
    assert "Unable to acquire lock" in said
    assert str(adding.pid) not in said
    code, said = clone.fail(*DOCTOR, "--quick")
    assert code == 1
    assert f"dvc add {DATA}" in said
    assert f"kill {adding.pid}" in said
    end(adding)
    clone.run("dvc", "add", DATA)
    assert clone.run("dvc", "status", f"{DATA}.dvc").strip() == "Data and pipelines are up to date."
    clone.run(*DOCTOR)


def test_a_repro_is_reported_while_it_runs_and_can_be_repeated_if_killed(clone: Clone) -> None:
    """A running stage is reported with its outs. If it is killed, the same command succeeds."""
    repro = clone.start("dvc", "repro", "--force", "--single-item", "data_validation", start_new_session=True)
    manifest = "data/dvc/02_intermediate/manifest.parquet"
    wait_for(lambda: not (clone.root / manifest).exists(), repro)  # DVC deletes the outs before it runs the stage
    wait_for(lambda: bool(list(find_lock_problems(clone.root))), repro)
    code, said = clone.fail(*DOCTOR, "--quick")
    assert code == 1
    assert manifest in said
    assert str(repro.pid) in said
    end(repro)
    assert not list(find_lock_problems(clone.root))
    clone.run(
        "dvc", "repro", "data_preparation"
    )  # DVC restores the results of the same inputs without running the stage
    assert (clone.root / manifest).is_file()
    assert clone.untracked() == set()


@pytest.mark.parametrize("left", ["", '{"write": {"/data/ima'], ids=["emptied", "half written"])
def test_a_half_written_rwlock_is_reported(clone: Clone, left: str) -> None:
    """An incomplete rwlock, which blocks all DVC commands, is reported, and the suggested command fixes it."""
    rwlock = clone.root / ".dvc" / "tmp" / "rwlock"
    rwlock.write_text(left)
    assert clone.fail("dvc", "repro", "--force", "sample_data")[0] != 0
    code, said = clone.fail(*DOCTOR, "--quick")
    assert code == 1
    remedy = re.search(r"→ (rm .*)", said)
    assert remedy is not None
    clone.run("sh", "-c", remedy[1])
    assert "up to date" in clone.run("dvc", "repro", "sample_data")


def test_a_damaged_cache_object_is_reported_and_restored(clone: Clone, photos: Path) -> None:
    """A flipped bit in a read-only object is detected by its digest, and the object is restored from the remote."""
    clone.run("dvc", "add", DATA)
    clone.run("dvc", "checkout", "--relink", f"{DATA}.dvc")
    clone.run("dvc", "push", f"{DATA}.dvc")
    photo = photos / "17.bin"
    whole = photo.read_bytes()
    (cached,) = [path for path in (clone.root / ".dvc" / "cache").rglob("*") if path.is_file() and path.samefile(photo)]
    assert cached.stat().st_mode & 0o777 == 0o444
    cached.chmod(0o644)
    with cached.open("r+b") as file:
        file.write(bytes([whole[0] ^ 1]))
    cached.chmod(0o444)
    shutil.rmtree(photos)
    clone.run("dvc", "checkout", f"{DATA}.dvc")
    assert photo.read_bytes() != whole
    code, said = clone.fail(*DOCTOR)
    assert code == 1
    assert f"{DATA}/17.bin" in said
    assert str(cached.relative_to(clone.root)) in said
    assert "kedro data-doctor --remove-damaged" in said
    assert "dvc pull --force" in said
    clone.run(*DOCTOR, "--remove-damaged")
    assert not cached.exists()
    clone.run("dvc", "pull", "--force", f"{DATA}.dvc")
    assert photo.read_bytes() == whole
    clone.run(*DOCTOR)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_lock_file_is_reported_and_restored(clone: Clone, share: float) -> None:
    """A dvc.lock truncated at any position is reported, and the suggested command restores it."""
    lock = clone.root / "dvc.lock"
    whole = lock.read_bytes()
    lock.write_bytes(whole[: int(share * len(whole))])
    code, said = clone.fail(*DOCTOR, "--quick")
    assert code == 1
    remedy = re.search(r"dvc\.lock .* → (git .*)", said)
    assert remedy is not None
    clone.run("sh", "-c", remedy[1])
    assert lock.read_bytes() == whole
    assert clone.repro("data_preparation") == []


def test_a_missing_lock_file_is_reported_and_restored(clone: Clone) -> None:
    """A missing dvc.lock, which would make DVC run every stage again, is reported and restored."""
    lock = clone.root / "dvc.lock"
    whole = lock.read_bytes()
    lock.unlink()
    code, said = clone.fail(*DOCTOR, "--quick")
    assert code == 1
    assert "git checkout HEAD -- dvc.lock" in said
    clone.run("git", "checkout", "HEAD", "--", "dvc.lock")
    assert lock.read_bytes() == whole


@pytest.mark.parametrize("text", ["[]", '{"write": []}', '{"write": {"/a": {"pid": "x", "cmd": "y"}}}', "\0"])
def test_an_invalid_rwlock_is_reported(tmp_path: Path, text: str) -> None:
    """Invalid content that DVC rejects is reported without a traceback."""
    (tmp_path / ".dvc" / "tmp").mkdir(parents=True)
    (tmp_path / ".dvc" / "tmp" / "rwlock").write_text(text)
    assert [finding.remedy for finding in find_lock_problems(tmp_path)] == ["rm .dvc/tmp/rwlock"]


def test_a_folder_that_dvc_cannot_read_is_one_error(tmp_path: Path) -> None:
    """A missing repository or an invalid dvc.yaml is reported as one error with the next step."""
    with pytest.raises(DatasetError, match=re.escape(str(tmp_path))):
        find_damaged_objects(tmp_path)
    repository = Repository.create(tmp_path / "repository")
    (repository.root / "dvc.yaml").write_text("<<<<<<< HEAD\nstages:\n")
    with pytest.raises(DatasetError, match=r"dvc\.yaml"):
        find_damaged_objects(repository.root)


def test_a_lock_file_cut_between_two_lines_is_detected(clone: Clone, tmp_path: Path) -> None:
    """A dvc.lock truncated after any line is detected by its structure or by comparison with git."""
    lock = clone.root / "dvc.lock"
    whole = lock.read_text()
    ends = [match.end() for match in re.finditer("\n", whole)][:-1]
    try:
        for end_of_line in [*ends[::40], *ends[-6:]]:
            lock.write_text(whole[:end_of_line])
            assert read_stages(lock) is None or list(find_lock_file_problems(clone.root)), whole[:end_of_line][-200:]
    finally:
        lock.write_text(whole)
