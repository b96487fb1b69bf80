"""DVC locked, killed or damaged: `kedro data-doctor` says by whom or what, and the command it names mends it."""

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
from resnet50_pipeline.commands.dvc_state import (
    find_damaged_objects,
    find_lock_file_problems,
    find_lock_problems,
    read_stages,
)
from resnet50_pipeline.exceptions import DatasetError

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

DATA = "data/sample/01_raw/photos"
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
    """A folder that can be added to DVC: enough files for it to take a second."""
    folder = clone.root / DATA
    folder.mkdir(parents=True)
    for number in range(3000):
        (folder / f"{number}.bin").write_bytes(b"%06d" % number * 100)
    yield folder
    shutil.rmtree(folder)
    (clone.root / f"{DATA}.dvc").unlink(missing_ok=True)


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Wait until something is so, as long as the process runs."""
    while not condition():
        assert process.poll() is None, "the process ended before it came so far"
        time.sleep(0.01)


def holds_repository_lock(clone: Clone) -> bool:
    """Whether DVC's lock is held, as the doctor sees it."""
    return any("DVC is locked" in str(finding) for finding in find_lock_problems(clone.root))


def end(process: subprocess.Popen[str]) -> None:
    """Kill the process and those that it has started, as the end of a machine does."""
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def test_the_holder_of_the_lock_is_named_and_a_second_try_completes(clone: Clone, photos: Path) -> None:
    """While `dvc add` holds the lock its process is named; killed, it leaves nothing that a second try stumbles on."""
    adding = clone.start("dvc", "add", DATA, start_new_session=True)
    wait_for(lambda: holds_repository_lock(clone), adding)
    os.killpg(adding.pid, signal.SIGSTOP)
    code, said = clone.fail("dvc", "status", "dvc.yaml")
    assert code != 0
    assert "Unable to acquire lock" in said
    assert str(adding.pid) not in said
    code, said = clone.fail(*DOCTOR, "--quick")
    assert code == 1
    assert f"DVC is locked by process {adding.pid}: " in said
    assert f"dvc add {DATA} → wait for it, or end it (kill {adding.pid})" in said
    end(adding)
    clone.run("dvc", "add", DATA)
    assert clone.run("dvc", "status", f"{DATA}.dvc").strip() == "Data and pipelines are up to date."
    assert "so is the cache" in clone.run(*DOCTOR)


def test_a_killed_repro_is_named_while_it_runs_and_repeated_afterwards(clone: Clone) -> None:
    """A stage at work is named to whoever wants its outs; killed with all it started, the same command completes."""
    repro = clone.start("dvc", "repro", "--force", "--single-item", "data_validation", start_new_session=True)
    manifest = "data/sample/02_intermediate/manifest.parquet"
    wait_for(lambda: not (clone.root / manifest).exists(), repro)  # DVC deletes the outs of a stage before it runs
    wait_for(lambda: bool(list(find_lock_problems(clone.root))), repro)
    code, said = clone.fail(*DOCTOR, "--quick")
    assert code == 1
    assert manifest in said
    assert f"written by process {repro.pid}: " in said
    end(repro)
    assert not list(find_lock_problems(clone.root))
    clone.run("dvc", "repro", "data_preparation")  # without running it again: DVC has the results of the same inputs
    assert (clone.root / manifest).is_file()
    assert clone.untracked() == set()


@pytest.mark.parametrize("left", ["", '{"write": {"/data/ima'], ids=["emptied", "half written"])
def test_a_half_written_rwlock_is_named(clone: Clone, left: str) -> None:
    """A process killed while it wrote its list of users leaves what no command of DVC gets past; the remedy does."""
    rwlock = clone.root / ".dvc" / "tmp" / "rwlock"
    rwlock.write_text(left)
    assert clone.fail("dvc", "repro", "--force", "sample_data")[0] != 0
    code, said = clone.fail(*DOCTOR, "--quick")
    assert code == 1
    remedy = re.search(r"→ (rm .*)", said)
    assert remedy is not None
    clone.run("sh", "-c", remedy[1])
    assert "up to date" in clone.run("dvc", "repro", "sample_data")


def test_a_damaged_object_of_the_cache_is_named_and_restored(clone: Clone, photos: Path) -> None:
    """A flipped bit in a read-only object, which DVC hands on, is found by its digest, and the remote restores it."""
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
    assert f"{DATA}/17.bin: {cached.relative_to(clone.root)} is damaged" in said
    assert "kedro data-doctor --remove-damaged, then `dvc pull --force`" in said
    assert "1 damaged files of the cache deleted" in clone.run(*DOCTOR, "--remove-damaged")
    clone.run("dvc", "pull", "--force", f"{DATA}.dvc")
    assert photo.read_bytes() == whole
    assert "so is the cache" in clone.run(*DOCTOR)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_lock_file_is_named_and_restored(clone: Clone, share: float) -> None:
    """Wherever dvc.lock was cut off, also where DVC would just run stages again, the remedy restores it."""
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


def test_a_lock_file_that_is_gone_is_named_and_restored(clone: Clone) -> None:
    """Without it DVC would run every stage again, and say nothing."""
    lock = clone.root / "dvc.lock"
    whole = lock.read_bytes()
    lock.unlink()
    code, said = clone.fail(*DOCTOR, "--quick")
    assert code == 1
    assert "dvc.lock is not there, and git has one: every stage would run again → git checkout HEAD -- dvc.lock" in said
    clone.run("git", "checkout", "HEAD", "--", "dvc.lock")
    assert lock.read_bytes() == whole


@pytest.mark.parametrize("text", ["[]", '{"write": []}', '{"write": {"/a": {"pid": "x", "cmd": "y"}}}', "\0"])
def test_an_rwlock_of_another_form_is_named(tmp_path: Path, text: str) -> None:
    """What DVC refuses is named, and not a traceback."""
    (tmp_path / ".dvc" / "tmp").mkdir(parents=True)
    (tmp_path / ".dvc" / "tmp" / "rwlock").write_text(text)
    assert [finding.remedy for finding in find_lock_problems(tmp_path)] == ["rm .dvc/tmp/rwlock"]


def test_a_folder_that_dvc_cannot_read_is_no_traceback(tmp_path: Path) -> None:
    """Without a repository of DVC, or with a dvc.yaml of an unfinished merge, the message says what and what to do."""
    with pytest.raises(DatasetError, match=r"you are not inside of a DVC repository .* → restore what was committed"):
        find_damaged_objects(tmp_path)
    repository = Repository.create(tmp_path / "repository")
    (repository.root / "dvc.yaml").write_text("<<<<<<< HEAD\nstages:\n")
    with pytest.raises(DatasetError, match=r"dvc\.yaml', YAML file structure is corrupted → restore"):
        find_damaged_objects(repository.root)


def test_a_lock_file_cut_between_two_lines_is_seen(clone: Clone, tmp_path: Path) -> None:
    """No line of dvc.lock can be the last one without being noticed: by its form, or beside git's version."""
    lock = clone.root / "dvc.lock"
    whole = lock.read_text()
    ends = [match.end() for match in re.finditer("\n", whole)][:-1]
    try:
        for end_of_line in [*ends[::40], *ends[-6:]]:
            lock.write_text(whole[:end_of_line])
            assert read_stages(lock) is None or list(find_lock_file_problems(clone.root)), whole[:end_of_line][-200:]
    finally:
        lock.write_text(whole)
