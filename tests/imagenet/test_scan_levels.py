"""Scan levels, the cache and executors give the same results, and nothing is read twice."""

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from resnet50_pipeline.exceptions import DatasetError, ParameterError
from resnet50_pipeline.imagenet.layout import find_layout, read_lists
from resnet50_pipeline.imagenet.scan import cache as scan_cache
from resnet50_pipeline.imagenet.scan import dask_executor as inspection_dask
from resnet50_pipeline.imagenet.scan.executors import choose_executor, run_in_processes
from resnet50_pipeline.imagenet.scan.inspection import SCAN_LEVELS
from resnet50_pipeline.imagenet.scan.scan import scan_dataset
from resnet50_pipeline.imagenet.scan.tasks import Columns, InspectionTask
from resnet50_pipeline.imagenet.walk import walk_splits
from resnet50_pipeline.imaging.content.measures import SCORES, Measures

LONG_AGO_NS = 1_500_000_000_000_000_000


def scan(root: Path, **options: Any) -> pd.DataFrame:
    """Scan a folder with its own lists, by default in this process."""
    lists = read_lists(find_layout(root), 10)
    return scan_dataset(
        root, {split: one.entries for split, one in lists.items()}, options.pop("workers", 1), **options
    )


@pytest.fixture
def old_digits(digits: Path) -> Path:
    """Digits with old modification times, like those of a real dataset."""
    for path in digits.rglob("*.JPEG"):
        os.utime(path, ns=(LONG_AGO_NS, LONG_AGO_NS))
    return digits


class Reader:
    """Executor that inspects images and records their paths."""

    def __init__(self) -> None:
        self.paths: list[str] = []

    def __call__(self, tasks: Sequence[InspectionTask]) -> Iterator[Columns]:
        """Yield the results, in the order of the tasks."""
        for task in tasks:
            self.paths += task.paths
        yield from run_in_processes(tasks, 1)


def test_each_level_includes_the_level_below(old_digits: Path) -> None:
    """Each level adds columns to the level below: first sizes and times, then pixels, then digests and measures."""
    structure, header, full = (scan(old_digits, level=level) for level in SCAN_LEVELS)
    for manifest, level in zip((structure, header, full), SCAN_LEVELS, strict=True):
        assert set(manifest["scan_level"]) == {level}
        assert set(manifest["mtime_ns"]) == {0 if level == "full" else LONG_AGO_NS}
        assert manifest["bytes"].equals(full["bytes"])
        assert set(manifest["status"]) == {"ok"}
    assert set(structure["format"]) == {""}
    others = ["sha256", "scan_level", "mtime_ns", *Measures._fields]
    assert header.drop(columns=others).equals(full.drop(columns=others))
    assert set(header["sha256"]) == set(header["difference_hash"]) == {""}
    assert header[list(SCORES)].isna().all(axis=None)
    assert full[list(SCORES)].notna().all(axis=None)
    assert (full["difference_hash"].str.len() == 36).any()


def test_unchanged_images_keep_their_measures(old_digits: Path, tmp_path: Path) -> None:
    """A scan that reuses the cache gives the same hashes and scores. A changed image is measured again."""
    first = scan(old_digits, cache_dir=tmp_path)
    reader = Reader()
    assert scan(old_digits, cache_dir=tmp_path, executor=reader).equals(first)
    assert reader.paths == []
    changed = old_digits / first["path"][3]
    Image.fromarray(255 - np.asarray(Image.open(changed).convert("L"))).save(changed, quality=95)
    again = scan(old_digits, cache_dir=tmp_path)
    differs = (again["brightness_p5"] != first["brightness_p5"]).to_numpy()
    assert np.flatnonzero(differs).tolist() == [3]


@pytest.mark.parametrize("level", SCAN_LEVELS)
def test_each_level_finds_missing_and_special_files(digits: Path, level: str) -> None:
    """Every level finds missing files, folders and links out of the root without opening them."""
    first, second, third = sorted((digits / "train").rglob("*.JPEG"))[:3]
    first.unlink()
    second.unlink()
    second.mkdir()
    third.rename(digits.parent / "outside.JPEG")
    third.symlink_to(digits.parent / "outside.JPEG")
    assert scan(digits, level=level)["status"].tolist()[:4] == ["missing", "not_a_file", "outside_root", "ok"]


def test_linked_split_folder_is_outside_the_root(digits: Path) -> None:
    """Images are outside the root if train/ is a link out of it."""
    (digits / "train").rename(digits.parent / "elsewhere")
    (digits / "train").symlink_to(digits.parent / "elsewhere")
    manifest = scan(digits, level="structure")
    assert set(manifest.query("split == 'train'")["status"]) == {"outside_root"}
    assert set(manifest.query("split == 'val'")["status"]) == {"ok"}


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_walking_with_processes_finds_the_same(tmp_path: Path, workers: int) -> None:
    """Any number of processes finds the sizes and times of all files, at any depth and with any name."""
    for number in range(300):
        folder = tmp_path / f"train/n{number:08d}" / ("deep" if number % 7 == 0 else "")
        folder.mkdir(parents=True)
        (folder / f"a b\n{number}é.JPEG").write_bytes(bytes(number))
    (tmp_path / "train/flat.JPEG").write_bytes(b"12")
    (tmp_path / os.fsdecode(b"train/\xff.JPEG")).write_bytes(b"1")
    (tmp_path / "val").mkdir()
    walked = walk_splits(tmp_path, ["train", "val"], workers)
    found = dict(
        zip(walked.paths.to_pylist(), zip(walked.sizes.tolist(), walked.mtimes.tolist(), strict=True), strict=True)
    )
    expected = {
        os.fsencode(path.relative_to(tmp_path)).decode(errors="backslashreplace"): (
            path.stat().st_size,
            path.stat().st_mtime_ns,
        )
        for path in tmp_path.rglob("*")
        if path.is_file()
    }
    assert found == expected
    assert walked.is_file.all()


def test_a_copy_gives_the_same_manifest(digits: Path) -> None:
    """At the full level, new modification times do not change the manifest, so DVC does not rerun stages."""
    before = scan(digits)
    for path in digits.rglob("*.JPEG"):
        os.utime(path, ns=(LONG_AGO_NS, LONG_AGO_NS))
    pd.testing.assert_frame_equal(scan(digits), before)


# ── the cache ──


@pytest.mark.parametrize("level", ["header", "full"])
def test_a_second_scan_reads_nothing(old_digits: Path, tmp_path: Path, level: str) -> None:
    """A second scan of unchanged files reads nothing and produces the same manifest."""
    first = scan(old_digits, level=level, cache_dir=tmp_path / "cache")
    reader = Reader()
    second = scan(old_digits, level=level, cache_dir=tmp_path / "cache", executor=reader)
    assert reader.paths == []
    pd.testing.assert_frame_equal(first, second)


def test_only_files_that_changed_are_read_again(old_digits: Path, tmp_path: Path) -> None:
    """Only files that are missing or have a different size or time are inspected again."""
    cache = tmp_path / "cache"
    scan(old_digits, cache_dir=cache)
    touched, grown, gone = sorted((old_digits / "train").rglob("*.JPEG"))[:3]
    os.utime(touched, ns=(LONG_AGO_NS, LONG_AGO_NS + 1))
    grown.write_bytes(grown.read_bytes() + b"more")
    os.utime(grown, ns=(LONG_AGO_NS, LONG_AGO_NS))
    gone.unlink()
    reader = Reader()
    manifest = scan(old_digits, cache_dir=cache, executor=reader)
    assert sorted(reader.paths) == [str(path.relative_to(old_digits)) for path in (touched, grown, gone)]
    pd.testing.assert_frame_equal(manifest, scan(old_digits))


def test_cached_results_serve_lower_levels_only(old_digits: Path, tmp_path: Path) -> None:
    """Results of a full scan can be used for a header scan, but not the other way around."""
    cache = tmp_path / "cache"
    scan(old_digits, level="header", cache_dir=cache)
    reader = Reader()
    scan(old_digits, level="full", cache_dir=cache, executor=reader)
    assert len(reader.paths) == 60
    assert set(scan(old_digits, level="header", cache_dir=cache)["scan_level"]) == {"full"}


def test_each_row_records_its_level(old_digits: Path, tmp_path: Path) -> None:
    """Each row records its own level when a header scan follows a full one."""
    cache = tmp_path / "cache"
    full = scan(old_digits, cache_dir=cache)
    changed = min((old_digits / "train").rglob("*.JPEG"))
    os.utime(changed, ns=(LONG_AGO_NS, LONG_AGO_NS + 1))
    manifest = scan(old_digits, level="header", cache_dir=cache)
    is_changed = manifest["path"] == changed.relative_to(old_digits).as_posix()
    assert set(manifest[is_changed]["scan_level"]) == {"header"}
    assert set(manifest[is_changed]["sha256"]) == {""}
    pd.testing.assert_frame_equal(manifest[~is_changed], full[~is_changed])


def test_structure_scan_ignores_the_cache(old_digits: Path, tmp_path: Path) -> None:
    """A structure scan ignores the cache."""
    alone = scan(old_digits, level="structure")
    scan(old_digits, cache_dir=tmp_path / "cache")
    pd.testing.assert_frame_equal(scan(old_digits, level="structure", cache_dir=tmp_path / "cache"), alone)


def test_recently_changed_files_are_not_cached(digits: Path, tmp_path: Path) -> None:
    """Recently changed files are not cached, because they may change again without a new modification time."""
    for path in digits.rglob("*.JPEG"):
        path.touch()
    scan(digits, cache_dir=tmp_path / "cache")
    reader = Reader()
    scan(digits, cache_dir=tmp_path / "cache", executor=reader)
    assert len(reader.paths) == 60


@pytest.mark.parametrize("damage", ["cut off", "moved", "garbage"])
def test_invalid_cache_is_ignored(old_digits: Path, tmp_path: Path, damage: str) -> None:
    """A damaged cache, or one from the folder's old path, is ignored."""
    cache, root = tmp_path / "cache", old_digits
    scan(root, cache_dir=cache)
    (known,) = cache.rglob("known.arrow")
    if damage == "moved":
        root = old_digits.rename(tmp_path / "moved")
    else:
        known.write_bytes(known.read_bytes()[:500] if damage == "cut off" else b"garbage")
    reader = Reader()
    manifest = scan(root, cache_dir=cache, executor=reader)
    assert len(reader.paths) == 60
    assert set(manifest["status"]) == {"ok"}


def test_each_dataset_has_its_own_cache(old_digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scanning another folder keeps the first folder's results. Only the most recently used caches are kept."""
    monkeypatch.setattr(scan_cache, "_MAX_DATASETS", 3)
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "known.arrow").write_bytes(b"written by an older version")
    roots = [old_digits, *(shutil.copytree(old_digits, tmp_path / f"copy-{number}") for number in range(3))]
    for root in roots[:2] * 2:
        reader = Reader()
        scan(root, cache_dir=cache, executor=reader)
    assert reader.paths == []
    for root in roots[2:]:
        scan(root, cache_dir=cache)
    assert [path.name for path in cache.rglob("*") if path.is_file()] == ["known.arrow"] * 3
    scan(roots[0], cache_dir=cache, executor=reader)
    assert len(reader.paths) == 60


SCAN_SLOWLY = """
    import sys, time
    from pathlib import Path
    from resnet50_pipeline.imagenet.scan import tasks
    from resnet50_pipeline.imagenet.scan import scan
    from resnet50_pipeline.imagenet.layout import find_layout, read_lists

    scan._SECONDS_BETWEEN_CHECKPOINTS = 0.0
    tasks._IMAGES_PER_TASK[sys.argv[3]] = 5

    def run_slowly(waiting):
        for task in waiting:
            yield tasks.run_task(task)
            time.sleep(0.2)

    root = Path(sys.argv[1])
    lists = {split: one.entries for split, one in read_lists(find_layout(root), 10).items()}
    scan.scan_dataset(root, lists, 1, level=sys.argv[3], cache_dir=Path(sys.argv[2]), executor=run_slowly)
"""


@pytest.mark.parametrize("level", ["header", "full"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_interrupted_scan_resumes(old_digits: Path, tmp_path: Path, number: signal.Signals, level: str) -> None:
    """After an interruption, finished images are not read again, and the manifest is the same."""
    cache = tmp_path / "cache"
    command = [sys.executable, "-c", textwrap.dedent(SCAN_SLOWLY), old_digits, cache, level]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while len(list(cache.rglob("new-*.arrow"))) < 4:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(number)
    assert process.returncode != 0
    reader = Reader()
    manifest = scan(old_digits, level=level, cache_dir=cache, executor=reader)
    assert 0 < len(reader.paths) <= 40
    pd.testing.assert_frame_equal(manifest, scan(old_digits, level=level))
    assert [path.name for path in cache.rglob("*") if path.is_file()] == ["known.arrow"]


# ── executors ──


def test_missing_dask_is_reported(monkeypatch) -> None:
    """Without Dask, the error contains the command that installs it."""
    monkeypatch.setattr(inspection_dask.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ParameterError, match=r"pip install .*\[dask\]"):
        choose_executor("dask")


needs_dask = pytest.mark.skipif(importlib.util.find_spec("distributed") is None, reason="requires the dask extra")


@needs_dask
@pytest.mark.slow
def test_dask_cluster_gives_the_same_manifest(old_digits: Path) -> None:
    """A local cluster and a cluster reached by its address produce the same manifest as this process."""
    from distributed import LocalCluster

    (old_digits / "train/n00000000").glob("*.JPEG").__next__().write_bytes(b"no image")
    alone = scan(old_digits)
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        by_address = scan(old_digits, executor=choose_executor("dask", 2, cluster.scheduler_address))
    pd.testing.assert_frame_equal(by_address, alone)
    pd.testing.assert_frame_equal(scan(old_digits, executor=choose_executor("dask", 2)), alone)


@needs_dask
@pytest.mark.slow
def test_unreachable_dask_scheduler_is_reported(old_digits: Path, monkeypatch) -> None:
    """An unreachable scheduler is reported within seconds."""
    monkeypatch.setattr(inspection_dask, "_CONNECT_SECONDS", 2)
    with pytest.raises(DatasetError, match=r"tcp://127\.0\.0\.1:9\b"):
        scan(old_digits, executor=choose_executor("dask", 2, "tcp://127.0.0.1:9"))
