"""A dataset in archives produces the same lists, manifest and problems as the unpacked dataset."""

import hashlib
import io
import os
import shutil
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from resnet50_pipeline.exceptions import DatasetError, DatasetNotFoundError, ListFileError, ParameterError
from resnet50_pipeline.imagenet.archives import images as archived_images
from resnet50_pipeline.imagenet.archives import published_md5
from resnet50_pipeline.imagenet.archives.images import index_archives
from resnet50_pipeline.imagenet.archives.published_md5 import require_published_md5
from resnet50_pipeline.imagenet.archives.unpack import unpack_archives
from resnet50_pipeline.imagenet.layout import find_layout, read_lists
from resnet50_pipeline.imagenet.scan import executors, tasks
from resnet50_pipeline.imagenet.scan.executors import choose_executor
from resnet50_pipeline.imagenet.scan.inspection import SCAN_LEVELS
from resnet50_pipeline.imagenet.scan.scan import scan_dataset
from resnet50_pipeline.imagenet.scan.tasks import Columns, InspectionTask, run_task

LONG_AGO_NS = 1_500_000_000_000_000_000


class Archives:
    """A packed dataset of ten digits: `root` contains only the lists, and `loose` contains the original images."""

    def __init__(self, loose: Path, folder: Path) -> None:
        self.loose, self.folder, self.root = loose, folder, folder / "root"
        self.train, self.val = folder / "ILSVRC2012_img_train.tar", folder / "ILSVRC2012_img_val.tar"
        self.root.mkdir(parents=True)
        for path in loose.glob("*_list.txt"):
            shutil.copy(path, self.root)

    def pack(self) -> None:
        """Pack the loose images as ImageNet does, in a tar of tars and a flat tar, with old modification times."""
        with tarfile.open(self.train, "w") as outer:
            for folder in sorted((self.loose / "train").iterdir()):
                buffer = io.BytesIO()
                with tarfile.open(fileobj=buffer, mode="w") as inner:
                    for image in sorted(folder.iterdir()):
                        inner.add(image, image.name)
                info = tarfile.TarInfo(f"{folder.name}.tar")
                info.size = buffer.tell()
                outer.addfile(info, io.BytesIO(buffer.getvalue()))
        with tarfile.open(self.val, "w") as outer:
            for image in sorted((self.loose / "val").rglob("*.*")):
                outer.add(image, image.relative_to(self.loose / "val").as_posix())
        self.age()

    def age(self, at_ns: int = LONG_AGO_NS) -> None:
        """Set the modification time of the archives."""
        for path in (self.train, self.val):
            os.utime(path, ns=(at_ns, at_ns))

    def scan(self, **options: Any) -> pd.DataFrame:
        """Scan the archives, by default in this process."""
        archives = {"train": self.train, "val": self.val}
        layout = find_layout(self.root, val_ground_truth=options.pop("truth", None), archives=archives)
        archived = index_archives(layout.archives, 1)
        lists = read_lists(layout, 10, archived=archived)
        entries = {split: one.entries for split, one in lists.items()}
        return scan_dataset(self.root, entries, options.pop("workers", 1), archived=archived, **options)

    def scan_loose(self, **options: Any) -> pd.DataFrame:
        """Scan the loose images with the same lists."""
        lists = read_lists(find_layout(self.loose), 10)
        return scan_dataset(self.loose, {split: one.entries for split, one in lists.items()}, 1, **options)


@pytest.fixture
def archives(digits: Path, tmp_path: Path) -> Archives:
    """The digits with old modification times, loose and packed."""
    for path in digits.rglob("*.JPEG"):
        os.utime(path, ns=(LONG_AGO_NS, LONG_AGO_NS))
    packed = Archives(digits, tmp_path / "packed")
    packed.pack()
    return packed


class Reader:
    """Executor that inspects images and records the tasks."""

    def __init__(self) -> None:
        self.tasks: list[InspectionTask] = []

    def __call__(self, tasks: Sequence[InspectionTask]) -> Iterator[Columns]:
        """Yield the results, in the order of the tasks."""
        for task in tasks:
            self.tasks.append(task)
            yield run_task(task)


def files_below(folder: Path) -> set[str]:
    """Return the paths of everything below a folder."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


# ── the manifest ──


@pytest.mark.parametrize("level", SCAN_LEVELS)
def test_manifest_equals_that_of_unpacked_images(archives: Archives, level: str) -> None:
    """Scanning archives produces the same manifest as scanning loose images, and unpacks nothing."""
    before = files_below(archives.folder)
    pd.testing.assert_frame_equal(archives.scan(level=level), archives.scan_loose(level=level))
    assert files_below(archives.folder) == before


@pytest.mark.parametrize("level", SCAN_LEVELS)
def test_manifest_stays_equal_after_unpacking(archives: Archives, tmp_path: Path, level: str) -> None:
    """`unpack_archives` writes the scanned images with the modification times from the archive."""
    root = shutil.copytree(archives.root, tmp_path / "unpacked")
    unpack_archives(root, {"train": archives.train, "val": archives.val})
    archives.loose = root
    pd.testing.assert_frame_equal(archives.scan(level=level), archives.scan_loose(level=level))


def test_folder_of_class_archives_gives_the_same_manifest(archives: Archives) -> None:
    """A folder of class archives produces the same manifest as the train archive."""
    expected = archives.scan()
    folder = archives.folder / "classes"
    folder.mkdir()
    with tarfile.open(archives.train) as outer:
        for member in outer:
            (folder / member.name).write_bytes(outer.extractfile(member).read())
    archives.train = folder
    pd.testing.assert_frame_equal(archives.scan(), expected)


def test_manifest_does_not_depend_on_the_number_of_processes(
    archives: Archives, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The manifest does not depend on the number of processes that list and read an archive."""
    expected = archives.scan()
    monkeypatch.setattr(archived_images, "_MIN_BYTES_FOR_POOL", 0)
    monkeypatch.setitem(tasks._IMAGES_PER_TASK, "full", 3)
    monkeypatch.setitem(executors._MIN_IMAGES_FOR_POOL, "full", 1)
    one = index_archives({"train": archives.train}, 1)["train"]
    two = index_archives({"train": archives.train}, 2)["train"]
    assert (one.names, one.offsets.tolist(), one.sizes.tolist()) == (
        two.names,
        two.offsets.tolist(),
        two.sizes.tolist(),
    )
    pd.testing.assert_frame_equal(archives.scan(executor=choose_executor("processes", 2)), expected)


def test_archive_is_read_sequentially(archives: Archives) -> None:
    """Archives are read from front to end, even for shuffled lists."""
    path = archives.root / "train_list.txt"
    path.write_text("".join(sorted(path.read_text().splitlines(keepends=True), key=lambda line: line[::-1])))
    reader = Reader()
    manifest = archives.scan(executor=reader)
    assert set(manifest["status"]) == {"ok"}
    for name in {task.archive for task in reader.tasks}:
        offsets = [offset for task in reader.tasks if task.archive == name for offset in task.offsets]
        assert offsets == sorted(offsets)
        assert len(offsets) == (40 if name == str(archives.train) else 20)


# ── lists ──


def test_lists_are_generated_from_archives(archives: Archives) -> None:
    """Lists generated from archives equal the lists generated from folders."""
    for folder in (archives.root, archives.loose):
        for path in folder.glob("*_list.txt"):
            path.unlink()
    pd.testing.assert_frame_equal(archives.scan(level="structure"), archives.scan_loose(level="structure"))


def test_ground_truth_labels_a_flat_val_archive(archives: Archives) -> None:
    """A ground truth file applies to the members of a flat val archive just as it does to files."""
    images = sorted((archives.loose / "val").rglob("*.JPEG"))
    truth = archives.root / "truth.txt"
    truth.write_text("".join(f"{image.parent.name}\n" for image in images))
    for number, image in enumerate(images, start=1):
        image.rename(archives.loose / "val" / f"ILSVRC2012_val_{number:08d}.JPEG")
    for path in archives.root.glob("*_list.txt"):
        path.unlink()
    archives.pack()
    manifest = archives.scan(truth=Path("truth.txt")).query("split == 'val'").sort_values("path")
    assert manifest["path"].tolist() == [f"val/ILSVRC2012_val_{number:08d}.JPEG" for number in range(1, 21)]
    assert manifest["synset"].tolist() == [image.parent.name for image in images]
    assert set(manifest["status"]) == {"ok"}
    with pytest.raises(ListFileError, match=r"ILSVRC2012_img_val\.tar .* dataset\.val_ground_truth"):
        archives.scan()


def test_one_split_may_be_packed_and_the_other_loose(archives: Archives) -> None:
    """A val archive works with a loose train folder, which defines the labels."""
    shutil.copytree(archives.loose / "train", archives.root / "train")
    layout = find_layout(archives.root, archives={"val": archives.val})
    lists = {split: one.entries for split, one in read_lists(layout, 10).items()}
    manifest = scan_dataset(archives.root, lists, 1, archived=index_archives(layout.archives, 1))
    pd.testing.assert_frame_equal(manifest, archives.scan_loose())


def test_missing_archive_is_reported(archives: Archives) -> None:
    """A mistyped archive name is reported before anything is read."""
    with pytest.raises(DatasetNotFoundError, match=r"typo\.tar"):
        find_layout(archives.root, archives={"train": Path("typo.tar"), "val": archives.val})


# ── faults ──


def test_image_missing_from_the_archive_is_reported(archives: Archives) -> None:
    """A listed image that is not in the archive is reported as missing, even if a loose file has its path."""
    path = archives.root / "train_list.txt"
    first, second, *others = path.read_text().splitlines(keepends=True)
    path.write_text("".join([first.replace("/", "/not_", 1), *others]))
    loose = archives.root / "train" / first.split(" ")[0].replace("/", "/not_", 1)
    loose.parent.mkdir(parents=True)
    loose.write_bytes(b"")
    manifest = archives.scan()
    row = manifest.iloc[0]
    assert (row["status"], row["bytes"]) == ("missing", 0)
    assert "dataset.train_archive →" in row["problem"]
    unlisted = manifest[manifest["status"] == "unlisted"]["path"].tolist()
    assert unlisted == sorted(f"train/{line.split(' ')[0]}" for line in (first, second))


@pytest.mark.parametrize("level", ["header", "full"])
def test_damaged_images_are_found_in_archives(archives: Archives, level: str) -> None:
    """Truncated and empty images, web pages and trailing bytes are detected just as in loose files."""
    images = sorted((archives.loose / "train").rglob("*.JPEG"))
    images[0].write_bytes(images[0].read_bytes()[:-2])
    images[1].write_bytes(b"")
    images[2].write_bytes(b"<!DOCTYPE html><html>404</html>")
    images[3].write_bytes(images[3].read_bytes() + bytes(100))
    for image in images[:4]:
        os.utime(image, ns=(LONG_AGO_NS, LONG_AGO_NS))
    archives.pack()
    found = archives.scan(level=level)
    pd.testing.assert_frame_equal(found, archives.scan_loose(level=level))
    assert (found["status"] == "undecodable").sum() == 3
    assert found["trailing_bytes"].sum() == 100


def test_archive_that_shrinks_during_a_scan_is_reported(archives: Archives) -> None:
    """If an archive shrinks or disappears during a scan, its images are reported and the scan continues."""

    def read_truncated(tasks: Sequence[InspectionTask]) -> Iterator[Columns]:
        os.truncate(archives.train, archives.train.stat().st_size // 2)
        return map(run_task, tasks)

    status = archives.scan(executor=read_truncated)["status"].tolist()
    assert 0 < status.count("undecodable") < 40
    archives.pack()

    def read_nothing(tasks: Sequence[InspectionTask]) -> Iterator[Columns]:
        archives.train.unlink()
        return map(run_task, tasks)

    problems = archives.scan(executor=read_nothing).query("status == 'not_a_file'")["problem"]
    assert len(problems) == 40
    assert problems.str.contains(str(archives.train), regex=False).all()


ESCAPES = {
    "parent": ("../escaped.JPEG", tarfile.REGTYPE, ""),
    "absolute": ("/tmp/escaped.JPEG", tarfile.REGTYPE, ""),  # noqa: S108 - never written
    "symbolic link": ("link.JPEG", tarfile.SYMTYPE, "/etc/passwd"),
    "hard link": ("link.JPEG", tarfile.LNKTYPE, "../../secret"),
    "device": ("device.JPEG", tarfile.CHRTYPE, ""),
    "FIFO": ("fifo.JPEG", tarfile.FIFOTYPE, ""),
}


@pytest.mark.parametrize("name", ESCAPES)
@pytest.mark.parametrize("level", SCAN_LEVELS)
def test_archive_with_escaping_member_is_not_scanned(archives: Archives, name: str, level: str) -> None:
    """At every level, a member that would escape the folder stops the scan before any image is read."""
    member, kind, target = ESCAPES[name]
    info = tarfile.TarInfo(member)
    info.type, info.linkname = kind, target
    with tarfile.open(archives.val, "a") as archive:
        archive.addfile(info)
    before = files_below(archives.folder.parent)
    reader = Reader()
    with pytest.raises(DatasetError, match="ILSVRC2012_img_val"):
        archives.scan(level=level, executor=reader, cache_dir=archives.folder / "cache")
    assert reader.tasks == []
    assert files_below(archives.folder.parent) == before


@pytest.mark.parametrize("mtime", [-1.0, 1e30, 10.0**15])
def test_extreme_member_times_are_accepted(archives: Archives, mtime: float) -> None:
    """Members with times before 1970 or in the far future are scanned and unpacked."""
    with tarfile.open(archives.val, "w", format=tarfile.PAX_FORMAT) as archive:
        for image in sorted((archives.loose / "val").rglob("*.JPEG")):
            info = archive.gettarinfo(image, image.relative_to(archives.loose / "val").as_posix())
            info.mtime = mtime
            archive.addfile(info, io.BytesIO(image.read_bytes()))
    manifest = archives.scan(level="header")
    assert set(manifest["status"]) == {"ok"}
    assert manifest["mtime_ns"].min() >= 0
    unpack_archives(archives.root, {"val": archives.val})
    assert len(list((archives.root / "val").rglob("*.JPEG"))) == 20


def test_swapped_archives_are_reported(archives: Archives) -> None:
    """A flat archive is rejected as the train archive."""
    for path in (archives.loose / "val").rglob("*.JPEG"):
        path.rename(archives.loose / "val" / path.name)
    archives.pack()
    with pytest.raises(DatasetError, match="ILSVRC2012_img_val"):
        index_archives({"train": archives.val})


# ── the cache ──


@pytest.mark.parametrize("level", ["header", "full"])
def test_second_scan_of_unchanged_archives_reads_nothing(archives: Archives, tmp_path: Path, level: str) -> None:
    """Cached results are reused while an archive's size and modification time stay the same."""
    first = archives.scan(level=level, cache_dir=tmp_path / "cache")
    reader = Reader()
    second = archives.scan(level=level, cache_dir=tmp_path / "cache", executor=reader)
    assert reader.tasks == []
    pd.testing.assert_frame_equal(first, second)


def test_replaced_archive_is_read_again(archives: Archives, tmp_path: Path) -> None:
    """After an archive is replaced, all images are read again, even members with the same name, size and time."""
    archives.scan(cache_dir=tmp_path / "cache")
    archives.age(LONG_AGO_NS + 1)
    reader = Reader()
    archives.scan(cache_dir=tmp_path / "cache", executor=reader)
    assert sum(len(task.paths) for task in reader.tasks) == 60


def test_results_of_an_archive_are_not_used_for_loose_images(archives: Archives, tmp_path: Path) -> None:
    """Results for archive members are not used for unpacked files, because unpacking may have failed."""
    archives.scan(cache_dir=tmp_path / "cache")
    unpack_archives(archives.root, {"train": archives.train, "val": archives.val})
    archives.loose = archives.root
    reader = Reader()
    archives.scan_loose(cache_dir=tmp_path / "cache", executor=reader)
    assert sum(len(task.paths) for task in reader.tasks) == 60


def test_recently_changed_archive_is_not_cached(archives: Archives, tmp_path: Path) -> None:
    """Results for an archive that has just changed are not cached, because it may not be fully copied yet."""
    archives.train.touch()
    archives.scan(cache_dir=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


# ── MD5 ──


def test_archives_are_verified_against_the_published_digests(
    archives: Archives, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong MD5 is reported with both digests, and inputs without a published MD5 are rejected."""
    right = hashlib.md5(archives.val.read_bytes(), usedforsecurity=False).hexdigest()
    monkeypatch.setattr(published_md5, "PUBLISHED_MD5", {"train": "0" * 32, "val": right})
    require_published_md5({"val": archives.val})
    with pytest.raises(DatasetError, match=rf"ILSVRC2012_img_train\.tar .*[0-9a-f]{{32}}.* {'0' * 32}"):
        require_published_md5({"val": archives.val, "train": archives.train})
    with pytest.raises(ParameterError, match=str(archives.root)):
        require_published_md5({"train": archives.root})
    with pytest.raises(ParameterError, match=r"data_validation\.verify_archives"):
        require_published_md5({})
