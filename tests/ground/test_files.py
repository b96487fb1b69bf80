"""Results are moved into place with a single rename, or not at all."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from resnet50_pipeline.files import replace_directory, replacing_file, staging_directory, write_text
from resnet50_pipeline.processes import locks


def test_failed_write_keeps_old_content(tmp_path: Path):
    """An error while writing keeps the old content and leaves no temporary file behind."""
    path = tmp_path / "list.txt"
    write_text(path, "old")
    with pytest.raises(RuntimeError), replacing_file(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["list.txt"]


def test_killed_writer_leaves_no_partial_file(tmp_path: Path):
    """SIGKILL during a write never leaves a partial file under the final name."""
    path = tmp_path / "list.txt"
    write_text(path, "old")
    program = (
        "import sys, time, pathlib\n"
        "from resnet50_pipeline.files import replacing_file\n"
        "with replacing_file(pathlib.Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_text('half'); print('writing', flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    assert path.read_text() == "old"


WRITER = """
import sys, time, pathlib
from resnet50_pipeline import files
path = pathlib.Path(sys.argv[1])
if sys.argv[2] == "file":
    with files.replacing_file(path) as temporary:
        temporary.write_text("half"); print("writing", flush=True); time.sleep(60)
else:
    staged = path.with_name("staged"); staged.mkdir(); (staged / "half").touch()
    real = pathlib.Path.replace
    def replace_slowly(self, target):
        if target == path:
            print("writing", flush=True); time.sleep(60)
        return real(self, target)
    pathlib.Path.replace = replace_slowly
    files.replace_directory(staged, path)
"""


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_next_writer_deletes_temporary_files_of_killed_writers(tmp_path: Path, kind: str):
    """The next writer deletes temporary files of killed processes and keeps those of running ones."""
    path = tmp_path / "result"

    def write() -> None:
        if kind == "file":
            write_text(path, "new")
        else:
            staged = tmp_path / "own"
            staged.mkdir()
            (staged / "new").touch()
            replace_directory(staged, path)

    def temporaries() -> list[str]:
        return sorted(one.name for one in tmp_path.iterdir() if one.name.endswith(".tmp"))

    write()
    (tmp_path / ".result.other.tmp").touch()  # not a temporary file of this project
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path), kind], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"writing\n"
        alive = temporaries()
        assert len(alive) == (2 if kind == "file" else 3)
        write()
        assert temporaries() == alive
        process.send_signal(signal.SIGKILL)
    write()
    assert temporaries() == [".result.other.tmp"]
    assert path.exists()


def test_directory_is_replaced_as_a_whole(tmp_path: Path):
    """The new folder completely replaces the old one, and no staged folder is left behind."""
    old, staged = tmp_path / "docs", tmp_path / "staged"
    old.mkdir()
    (old / "stale.html").touch()
    staged.mkdir()
    (staged / "index.html").write_text("new")
    replace_directory(staged, old)
    assert [path.name for path in old.iterdir()] == ["index.html"]
    assert [path.name for path in tmp_path.iterdir()] == ["docs"]


def test_readers_never_see_a_missing_file(tmp_path: Path):
    """Readers always find a complete version while a file is replaced repeatedly."""
    path = tmp_path / "metrics.json"
    write_text(path, "0" * 1000)
    program = (
        "import sys, pathlib\n"
        "from resnet50_pipeline.files import write_text\n"
        "for i in range(200): write_text(pathlib.Path(sys.argv[1]), str(i % 10) * 1000)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(path)]) as process:
        while process.poll() is None:
            text = path.read_text()
            assert len(text) == 1000
            assert len(set(text)) == 1
            time.sleep(0.001)
    assert process.returncode == 0


# ── file systems that reject calls ──


@pytest.fixture
def cifs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail as CIFS does: folders cannot be flushed, and permissions and timestamps cannot be changed."""
    real_fsync = os.fsync

    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        real_fsync(descriptor)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "fsync", fsync)
    for name in ("chmod", "utime"):
        monkeypatch.setattr(os, name, refuse)


def test_results_are_written_where_folders_cannot_be_flushed(cifs: None, tmp_path: Path):
    """Files and folders can be saved on a file system that rejects fsync of folders and chmod."""
    write_text(tmp_path / "list.txt", "new")
    with staging_directory(tmp_path) as staged:
        (staged / "a").write_text("a")
    replace_directory(staged, tmp_path / "folder")
    assert (tmp_path / "folder" / "a").read_text() == "a"


def test_a_folder_moves_to_a_file_system_without_permissions(
    cifs: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A staged folder on another device is copied without permissions or timestamps, and then removed."""
    with staging_directory(tmp_path) as staged:
        (staged / "deep").mkdir()
        (staged / "deep" / "a").write_text("a")
        (staged / "link").symlink_to("deep/a")
    real_replace = Path.replace

    def replace(self: Path, target: Path) -> Path:
        if self == staged:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        return real_replace(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    replace_directory(staged, tmp_path / "folder")
    assert (tmp_path / "folder" / "deep" / "a").read_text() == "a"
    assert (tmp_path / "folder" / "link").readlink() == Path("deep/a")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_flushing_a_file_that_fails_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Errors from flushing a file are not ignored, because its content may be lost."""

    def fsync(_: int) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="Invalid argument"):
        write_text(tmp_path / "list.txt", "new")


def test_unsupported_locks_cause_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """On a file system without locks, folders are claimed with a warning, and no holder is found."""

    def refuse(*_: object, **__: object) -> bool:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(locks, "lock_descriptor", refuse)
    monkeypatch.setattr(locks.fcntl, "flock", refuse)
    with locks.claiming(tmp_path / ".lock") as holder:
        assert holder is None
        assert locks.find_holder(tmp_path / ".lock") is None
    with locks.holding(tmp_path) as is_free:
        assert is_free
    assert len([record for record in caplog.records if str(tmp_path) in record.getMessage()]) == 2
