"""A scan produces one row per image with any number of processes, and never changes the dataset."""

import hashlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import psutil
import pytest

from resnet50_pipeline.exceptions import DatasetError
from resnet50_pipeline.imagenet.layout import find_layout, read_lists
from resnet50_pipeline.imagenet.scan.executors import run_in_processes
from resnet50_pipeline.imagenet.scan.manifest import MANIFEST_COLUMNS
from resnet50_pipeline.imagenet.scan.scan import scan_dataset
from resnet50_pipeline.imagenet.scan.tasks import InspectionTask, split_into_tasks


def scan(root: Path, class_num: int = 10, workers: int = 1) -> pd.DataFrame:
    """Scan a folder with its own lists."""
    lists = read_lists(find_layout(root), class_num)
    return scan_dataset(root, {split: prefixed.entries for split, prefixed in lists.items()}, workers)


def fingerprint(root: Path) -> dict[str, tuple[str, int]]:
    """Return the content and modification time of every file below a folder."""
    return {
        str(path.relative_to(root)): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def test_manifest_has_one_row_per_list_entry(digits: Path) -> None:
    """Rows follow the entries of both lists, train first, with the specified column types."""
    manifest = scan(digits)
    assert tuple(manifest.columns) == MANIFEST_COLUMNS
    lines = [
        f"{split}/{line}"
        for split in ("train", "val")
        for line in (digits / f"{split}_list.txt").read_text().split("\n")
    ]
    expected = [line for line in lines if " " in line]
    assert [f"{path} {label}" for path, label in zip(manifest["path"], manifest["label"], strict=True)] == expected
    assert manifest["label"].dtype == "Int64"
    assert manifest["bytes"].dtype == "int64"
    assert (manifest["status"] == "ok").all()
    assert (manifest["problem"] == "").all()
    assert (manifest["synset"] == manifest["path"].str.split("/").str[1]).all()
    first = manifest.iloc[0]
    assert first["sha256"] == hashlib.sha256((digits / first["path"]).read_bytes()).hexdigest()


def test_scanning_changes_nothing(digits: Path) -> None:
    """A scan does not change, add or remove any files."""
    before = fingerprint(digits)
    scan(digits)
    assert fingerprint(digits) == before


def test_unlisted_images_have_rows(digits: Path) -> None:
    """Unlisted images get rows at any depth and with any image suffix; other and hidden files get another status."""
    for name in ("train/n00000001/b.JPG", "train/n00000001/deep/c.png", "val/d.jpeg"):
        (digits / name).parent.mkdir(exist_ok=True)
        (digits / name).write_bytes(b"1234")
    for name in ("train/notes.txt", "train/n00000001/._a.JPEG", "train/.DS_Store"):
        (digits / name).write_bytes(b"")
    manifest = scan(digits)
    assert manifest.query("status == 'other_file'")["path"].tolist() == [
        "train/.DS_Store",
        "train/n00000001/._a.JPEG",
        "train/notes.txt",
    ]
    unlisted = manifest.query("status == 'unlisted'")
    assert unlisted["path"].tolist() == ["train/n00000001/b.JPG", "train/n00000001/deep/c.png", "val/d.jpeg"]
    assert unlisted["label"].tolist() == [-1, -1, -1]
    assert unlisted["bytes"].tolist() == [4, 4, 4]
    assert unlisted["synset"].tolist() == ["n00000001", "n00000001", ""]


def test_a_flat_val_folder_takes_its_synsets_from_train(digits: Path) -> None:
    """Images in a flat val/ get the synset of the train folder with the same label."""
    lines = (digits / "val_list.txt").read_text().splitlines()
    flat = []
    for number, line in enumerate(lines, start=1):
        path, label = line.split(" ")
        name = f"ILSVRC2012_val_{number:08d}.JPEG"
        (digits / "val" / path).rename(digits / "val" / name)
        flat.append(f"{name} {label}\n")
    (digits / "val_list.txt").write_text("".join(flat))
    val = scan(digits).query("split == 'val'")
    assert (val["status"] == "ok").all()
    assert val["synset"].tolist() == [f"n{label:08d}" for label in val["label"]]


def test_root_may_be_a_symbolic_link(digits: Path, tmp_path: Path) -> None:
    """The dataset root may be a symbolic link."""
    (tmp_path / "link").symlink_to(digits)
    assert (scan(tmp_path / "link")["status"] == "ok").all()


def test_results_do_not_depend_on_the_number_of_processes(digits: Path) -> None:
    """A pool of two processes produces the same results in the same order as one process, including damaged images."""
    (digits / "train/n00000000/empty.JPEG").write_bytes(b"")
    paths = sorted(str(path.relative_to(digits)) for path in digits.rglob("*.JPEG")) * 20
    assert len(paths) >= 1000
    tasks = split_into_tasks(InspectionTask(str(digits), paths, "full", is_walked=False))
    one, two = (list(run_in_processes(tasks, workers)) for workers in (1, 2))
    assert repr(one) == repr(two)  # NaN differs from itself


def test_scan_logs_the_number_of_images(digits: Path, caplog) -> None:
    """The scan logs the number of images, even without a terminal."""
    caplog.set_level("INFO")
    scan(digits)
    assert "60 images" in caplog.text


SCAN_FOREVER = """
    import sys
    from pathlib import Path
    from resnet50_pipeline.imagenet.scan.executors import run_in_processes
    from resnet50_pipeline.imagenet.scan.tasks import InspectionTask, split_into_tasks

    if __name__ == "__main__":
        root = Path(sys.argv[1])
        paths = sorted(str(path.relative_to(root)) for path in root.rglob("*.JPEG"))
        tasks = split_into_tasks(InspectionTask(str(root), paths * 10_000, "full", is_walked=False))
        print(list(run_in_processes(tasks, workers=2)))
"""


@pytest.fixture
def endless_scan(digits: Path, tmp_path: Path):
    """A process that scans forever, and its two workers. All of them are killed afterward."""
    script = tmp_path / "scan_forever.py"
    script.write_text(textwrap.dedent(SCAN_FOREVER))
    with subprocess.Popen([sys.executable, script, digits], stderr=subprocess.PIPE, text=True) as process:
        parent = psutil.Process(process.pid)
        # resource tracker, fork server, and its two workers
        wait_until(lambda: len(parent.children(recursive=True)) == 4)
        # the fork server is the one that has children
        server = next(child for child in parent.children() if child.children())
        wait_until(lambda: all(sum(worker.cpu_times()[:2]) > 0.3 for worker in server.children()))
        workers = server.children()
        yield process, workers
        process.kill()
        for worker in workers:
            if worker.is_running():
                worker.kill()


def wait_until(condition: Callable[[], bool], seconds: float = 30) -> None:
    """Wait until a condition holds; fail after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
def test_killed_worker_is_reported(endless_scan) -> None:
    """A killed worker ends the scan with an error that names the setting to change."""
    process, workers = endless_scan
    workers[0].kill()
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert DatasetError.__name__ in errors
    assert "data_validation.workers" in errors


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_no_worker_outlives_the_scan(endless_scan, number: signal.Signals) -> None:
    """The workers exit within 10 s after any signal ends the scanning process."""
    process, workers = endless_scan
    os.kill(process.pid, number)
    assert process.wait(timeout=10) != 0
    gone, alive = psutil.wait_procs(workers, timeout=10)
    assert len(gone) == 2
    assert not alive
