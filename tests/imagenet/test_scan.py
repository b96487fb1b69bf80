"""The scan: one row an image, the same whatever reads it, and nothing of the user's touched."""

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
from resnet50_pipeline.imagenet.inspection_pool import inspect_images
from resnet50_pipeline.imagenet.layout import find_layout, read_lists
from resnet50_pipeline.imagenet.manifest import MANIFEST_COLUMNS
from resnet50_pipeline.imagenet.scan import scan_dataset


def scan(root: Path, class_num: int = 10, workers: int = 1) -> pd.DataFrame:
    """Scan a folder with its own lists."""
    lists = read_lists(find_layout(root), class_num)
    return scan_dataset(root, {split: prefixed.entries for split, prefixed in lists.items()}, workers)


def fingerprint(root: Path) -> dict[str, tuple[str, int]]:
    """Return content and time of change of every file below a folder."""
    return {
        str(path.relative_to(root)): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def test_the_manifest_has_a_row_a_list_entry_in_order(digits: Path) -> None:
    """Rows are the entries of both lists, train first, in the lists' order, with the types that were agreed."""
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
    """No file of the folder is changed, added or removed."""
    before = fingerprint(digits)
    scan(digits)
    assert fingerprint(digits) == before


def test_images_that_no_list_names_have_rows(digits: Path) -> None:
    """Images of any suffix, at any depth, that no list names are found; what is no image, or hidden, is not."""
    for name in ("train/n00000001/b.JPG", "train/n00000001/deep/c.png", "val/d.jpeg"):
        (digits / name).parent.mkdir(exist_ok=True)
        (digits / name).write_bytes(b"1234")
    for name in ("train/notes.txt", "train/n00000001/._a.JPEG", "train/.DS_Store"):
        (digits / name).write_bytes(b"")
    unlisted = scan(digits).query("status == 'unlisted'")
    assert unlisted["path"].tolist() == ["train/n00000001/b.JPG", "train/n00000001/deep/c.png", "val/d.jpeg"]
    assert unlisted["label"].tolist() == [-1, -1, -1]
    assert unlisted["bytes"].tolist() == [4, 4, 4]
    assert unlisted["synset"].tolist() == ["n00000001", "n00000001", ""]


def test_a_flat_val_folder_takes_its_synsets_from_train(digits: Path) -> None:
    """val/ILSVRC2012_val_00000001.JPEG has no class folder; its synset is that of its label in train/."""
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


def test_a_root_that_is_a_link_is_fine(digits: Path, tmp_path: Path) -> None:
    """The dataset root itself may be a symbolic link."""
    (tmp_path / "link").symlink_to(digits)
    assert (scan(tmp_path / "link")["status"] == "ok").all()


def test_processes_give_what_one_process_gives(digits: Path) -> None:
    """A pool of two returns the same records in the same order, also where some images are bad."""
    (digits / "train/n00000000/empty.JPEG").write_bytes(b"")
    paths = sorted(str(path.relative_to(digits)) for path in digits.rglob("*.JPEG")) * 20
    assert len(paths) >= 1000
    assert inspect_images(digits, paths, workers=2) == inspect_images(digits, paths, workers=1)


def test_lines_tell_the_progress_where_there_is_no_terminal(digits: Path, caplog) -> None:
    """The scan ends with a line of numbers, also where no bar can be drawn."""
    caplog.set_level("INFO")
    scan(digits)
    assert "read 60 images in " in caplog.text
    assert "0 images are in no list" in caplog.text


SCAN_FOREVER = """
    import sys
    from pathlib import Path
    from resnet50_pipeline.imagenet.inspection_pool import inspect_images

    if __name__ == "__main__":
        root = Path(sys.argv[1])
        paths = sorted(str(path.relative_to(root)) for path in root.rglob("*.JPEG"))
        print(inspect_images(root, paths * 10_000, workers=2))
"""


@pytest.fixture
def endless_scan(digits: Path, tmp_path: Path):
    """A process that scans without end with two workers, and the workers; all are gone afterwards."""
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


def wait_until(is_so: Callable[[], bool], seconds: float = 30) -> None:
    """Wait until something is so; fail if it does not become so."""
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
def test_a_killed_worker_is_told(endless_scan) -> None:
    """A worker that is killed (for want of memory, say) ends the scan with the setting that helps."""
    process, workers = endless_scan
    workers[0].kill()
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert f"{DatasetError.__name__}: a process that read images was killed" in errors
    assert "set data_validation.workers below 2" in errors


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_worker_outlives_the_scan(endless_scan, number: signal.Signals) -> None:
    """Whatever ends the scanning process, its workers are gone within 10 s."""
    process, workers = endless_scan
    os.kill(process.pid, number)
    assert process.wait(timeout=10) != 0
    gone, alive = psutil.wait_procs(workers, timeout=10)
    assert len(gone) == 2
    assert not alive
