"""Levels, the cache of former scans, and who reads: what is found is the same, and nothing is read twice."""

import importlib.util
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from resnet50_pipeline.exceptions import DatasetError, ParameterError
from resnet50_pipeline.imagenet import inspection_dask
from resnet50_pipeline.imagenet.inspection import SCAN_LEVELS
from resnet50_pipeline.imagenet.inspection_pool import Columns, InspectionTask, choose_executor, run_in_processes
from resnet50_pipeline.imagenet.layout import find_layout, read_lists
from resnet50_pipeline.imagenet.scan import scan_dataset
from resnet50_pipeline.imagenet.walk import walk_splits

LONG_AGO_NS = 1_500_000_000_000_000_000


def scan(root: Path, **options: Any) -> pd.DataFrame:
    """Scan a folder with its own lists, in this process unless the options say otherwise."""
    lists = read_lists(find_layout(root), 10)
    return scan_dataset(
        root, {split: one.entries for split, one in lists.items()}, options.pop("workers", 1), **options
    )


@pytest.fixture
def old_digits(digits: Path) -> Path:
    """Digits that were last changed long ago, as a data set is."""
    for path in digits.rglob("*.JPEG"):
        os.utime(path, ns=(LONG_AGO_NS, LONG_AGO_NS))
    return digits


class Reader:
    """Reads as processes do, and notes the paths."""

    def __init__(self) -> None:
        self.paths: list[str] = []

    def __call__(self, tasks: Sequence[InspectionTask]) -> Iterator[Columns]:
        """Yield what is found, in the order of the tasks."""
        for task in tasks:
            self.paths += task.paths
        yield from run_in_processes(tasks, 1)


def test_each_level_says_what_the_ones_below_say(old_digits: Path) -> None:
    """Structure knows sizes and times, header also pixels, full also digests; each row says which it was."""
    structure, header, full = (scan(old_digits, level=level) for level in SCAN_LEVELS)
    for manifest, level in zip((structure, header, full), SCAN_LEVELS, strict=True):
        assert set(manifest["scan_level"]) == {level}
        assert set(manifest["mtime_ns"]) == {0 if level == "full" else LONG_AGO_NS}
        assert manifest["bytes"].equals(full["bytes"])
        assert set(manifest["status"]) == {"ok"}
    assert set(structure["format"]) == {""}
    others = ["sha256", "scan_level", "mtime_ns"]
    assert header.drop(columns=others).equals(full.drop(columns=others))
    assert set(header["sha256"]) == {""}


@pytest.mark.parametrize("level", SCAN_LEVELS)
def test_each_level_finds_what_is_no_image_file(digits: Path, level: str) -> None:
    """Missing files, folders and links out of the root are found at every level, and not opened."""
    first, second, third = sorted((digits / "train").rglob("*.JPEG"))[:3]
    first.unlink()
    second.unlink()
    second.mkdir()
    third.rename(digits.parent / "outside.JPEG")
    third.symlink_to(digits.parent / "outside.JPEG")
    assert scan(digits, level=level)["status"].tolist()[:4] == ["missing", "not_a_file", "outside_root", "ok"]


def test_a_split_folder_that_is_a_link_out_of_the_root_is_told(digits: Path) -> None:
    """What lies in train/ is outside the root where train/ is a link to elsewhere."""
    (digits / "train").rename(digits.parent / "elsewhere")
    (digits / "train").symlink_to(digits.parent / "elsewhere")
    manifest = scan(digits, level="structure")
    assert set(manifest.query("split == 'train'")["status"]) == {"outside_root"}
    assert set(manifest.query("split == 'val'")["status"]) == {"ok"}


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_walking_with_processes_finds_the_same(tmp_path: Path, workers: int) -> None:
    """However many processes walk, sizes and times of all files are found, at any depth and by any name."""
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
    """At level full the manifest goes by content: new times of change alone make no new one, for DVC to run on."""
    before = scan(digits)
    for path in digits.rglob("*.JPEG"):
        os.utime(path, ns=(LONG_AGO_NS, LONG_AGO_NS))
    pd.testing.assert_frame_equal(scan(digits), before)


# ── the cache ──


@pytest.mark.parametrize("level", ["header", "full"])
def test_a_second_scan_reads_nothing(old_digits: Path, tmp_path: Path, level: str) -> None:
    """Where no file was changed, nothing is read, and the manifest is the same."""
    first = scan(old_digits, level=level, cache_dir=tmp_path / "cache")
    reader = Reader()
    second = scan(old_digits, level=level, cache_dir=tmp_path / "cache", executor=reader)
    assert reader.paths == []
    pd.testing.assert_frame_equal(first, second)


def test_only_files_that_changed_are_read_again(old_digits: Path, tmp_path: Path) -> None:
    """Another time or size makes a file be read, one that is gone is told, as by a scan without a cache."""
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


def test_a_higher_level_serves_a_lower_one_and_not_the_reverse(old_digits: Path, tmp_path: Path) -> None:
    """After a full scan a header scan reads nothing and says "full"; after a header scan a full one reads all."""
    cache = tmp_path / "cache"
    scan(old_digits, level="header", cache_dir=cache)
    reader = Reader()
    scan(old_digits, level="full", cache_dir=cache, executor=reader)
    assert len(reader.paths) == 60
    assert set(scan(old_digits, level="header", cache_dir=cache)["scan_level"]) == {"full"}


def test_rows_of_both_levels_say_which_they_are_of(old_digits: Path, tmp_path: Path) -> None:
    """A header scan behind a full one reads the headers of what changed; each row says how far it was read."""
    cache = tmp_path / "cache"
    full = scan(old_digits, cache_dir=cache)
    changed = min((old_digits / "train").rglob("*.JPEG"))
    os.utime(changed, ns=(LONG_AGO_NS, LONG_AGO_NS + 1))
    manifest = scan(old_digits, level="header", cache_dir=cache)
    is_changed = manifest["path"] == changed.relative_to(old_digits).as_posix()
    assert set(manifest[is_changed]["scan_level"]) == {"header"}
    assert set(manifest[is_changed]["sha256"]) == {""}
    pd.testing.assert_frame_equal(manifest[~is_changed], full[~is_changed])


def test_a_structure_scan_takes_nothing_from_former_scans(old_digits: Path, tmp_path: Path) -> None:
    """Its rows are about names, sizes and times, whatever is known besides."""
    alone = scan(old_digits, level="structure")
    scan(old_digits, cache_dir=tmp_path / "cache")
    pd.testing.assert_frame_equal(scan(old_digits, level="structure", cache_dir=tmp_path / "cache"), alone)


def test_what_was_changed_a_moment_ago_is_read_again(digits: Path, tmp_path: Path) -> None:
    """A file whose time is that of the scan may change again unseen, so it is not taken from the cache."""
    for path in digits.rglob("*.JPEG"):
        path.touch()
    scan(digits, cache_dir=tmp_path / "cache")
    reader = Reader()
    scan(digits, cache_dir=tmp_path / "cache", executor=reader)
    assert len(reader.paths) == 60


@pytest.mark.parametrize("damage", ["cut off", "other root", "garbage"])
def test_a_cache_that_is_not_ours_is_not_believed(old_digits: Path, tmp_path: Path, damage: str) -> None:
    """A damaged cache, or that of another folder, costs a new reading and nothing else."""
    cache, root = tmp_path / "cache", old_digits
    scan(root, cache_dir=cache)
    known = cache / "known.arrow"
    if damage == "other root":
        root = old_digits.rename(tmp_path / "moved")
    else:
        known.write_bytes(known.read_bytes()[:500] if damage == "cut off" else b"garbage")
    reader = Reader()
    manifest = scan(root, cache_dir=cache, executor=reader)
    assert len(reader.paths) == 60
    assert set(manifest["status"]) == {"ok"}


SCAN_SLOWLY = """
    import sys, time
    from pathlib import Path
    from resnet50_pipeline.imagenet import inspection_pool, scan
    from resnet50_pipeline.imagenet.layout import find_layout, read_lists

    scan._SECONDS_BETWEEN_CHECKPOINTS = 0.0
    inspection_pool._IMAGES_PER_TASK[sys.argv[3]] = 5

    def run_slowly(tasks):
        for task in tasks:
            yield inspection_pool.run_task(task)
            time.sleep(0.2)

    root = Path(sys.argv[1])
    lists = {split: one.entries for split, one in read_lists(find_layout(root), 10).items()}
    scan.scan_dataset(root, lists, 1, level=sys.argv[3], cache_dir=Path(sys.argv[2]), executor=run_slowly)
"""


@pytest.mark.parametrize("level", ["header", "full"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_an_interrupted_scan_goes_on(old_digits: Path, tmp_path: Path, number: signal.Signals, level: str) -> None:
    """What a killed scan had read is not read again, and the manifest is that of a scan in one go."""
    cache = tmp_path / "cache"
    command = [sys.executable, "-c", textwrap.dedent(SCAN_SLOWLY), old_digits, cache, level]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while len(list(cache.glob("new-*.arrow"))) < 4:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(number)
    assert process.returncode != 0
    reader = Reader()
    manifest = scan(old_digits, level=level, cache_dir=cache, executor=reader)
    assert 0 < len(reader.paths) <= 40
    pd.testing.assert_frame_equal(manifest, scan(old_digits, level=level))
    assert [path.name for path in cache.iterdir()] == ["known.arrow"]


# ── who reads ──


def test_dask_that_is_not_installed_is_told(monkeypatch) -> None:
    """Without the extra, the setting says what to install."""
    monkeypatch.setattr(inspection_dask.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ParameterError, match=r"pip install 'resnet50-pipeline\[dask\]'"):
        choose_executor("dask")


needs_dask = pytest.mark.skipif(
    importlib.util.find_spec("distributed") is None, reason="the extra dask is not installed"
)


@needs_dask
@pytest.mark.slow
def test_a_dask_cluster_finds_what_this_process_finds(old_digits: Path) -> None:
    """A real cluster of this machine, at an address or started by the scan, gives the same manifest."""
    from distributed import LocalCluster

    (old_digits / "train/n00000000").glob("*.JPEG").__next__().write_bytes(b"no image")
    alone = scan(old_digits)
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        by_address = scan(old_digits, executor=choose_executor("dask", 2, cluster.scheduler_address))
    pd.testing.assert_frame_equal(by_address, alone)
    pd.testing.assert_frame_equal(scan(old_digits, executor=choose_executor("dask", 2)), alone)


@needs_dask
@pytest.mark.slow
def test_a_dask_scheduler_that_is_away_is_told(old_digits: Path, monkeypatch) -> None:
    """An address where nothing listens is named within seconds."""
    monkeypatch.setattr(inspection_dask, "_CONNECT_SECONDS", 2)
    with pytest.raises(DatasetError, match=r"tcp://127\.0\.0\.1:9 cannot be reached"):
        scan(old_digits, executor=choose_executor("dask", 2, "tcp://127.0.0.1:9"))
