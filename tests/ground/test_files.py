"""Results appear whole, by one rename, or not at all."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from resnet50_pipeline.files import replace_directory, replacing_file, write_text


def test_file_stands_as_it_was_when_writing_fails(tmp_path: Path):
    """An error half-way leaves the old content and no temporary file."""
    path = tmp_path / "list.txt"
    write_text(path, "old")
    with pytest.raises(RuntimeError), replacing_file(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["list.txt"]


def test_file_stands_as_it_was_when_the_writer_is_killed(tmp_path: Path):
    """SIGKILL while writing never leaves half a file under the final name."""
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
def test_what_a_killed_writer_left_goes_with_the_next_one(tmp_path: Path, kind: str):
    """A temporary file or folder of a live process stays, that of a killed one is deleted by whoever writes next."""
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
    (tmp_path / ".result.other.tmp").touch()  # not of ours, whatever it is
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
    """The new folder takes the old one's place, files of the old one do not stay, nor does the staged one."""
    old, staged = tmp_path / "docs", tmp_path / "staged"
    old.mkdir()
    (old / "stale.html").touch()
    staged.mkdir()
    (staged / "index.html").write_text("new")
    replace_directory(staged, old)
    assert [path.name for path in old.iterdir()] == ["index.html"]
    assert [path.name for path in tmp_path.iterdir()] == ["docs"]


def test_readers_never_see_a_missing_file(tmp_path: Path):
    """While a file is replaced again and again, every read finds one of its whole versions."""
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
