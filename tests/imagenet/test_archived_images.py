"""A data set whose images lie in archives: lists, manifest and faults are those of the unpacked one."""

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
from resnet50_pipeline.imagenet import archived_images, inspection_pool, published_archives
from resnet50_pipeline.imagenet.archived_images import index_archives
from resnet50_pipeline.imagenet.inspection import SCAN_LEVELS
from resnet50_pipeline.imagenet.inspection_pool import Columns, InspectionTask, choose_executor, run_task
from resnet50_pipeline.imagenet.layout import find_layout, read_lists
from resnet50_pipeline.imagenet.published_archives import require_published
from resnet50_pipeline.imagenet.scan import scan_dataset
from resnet50_pipeline.imagenet.unpack import unpack_archives

LONG_AGO_NS = 1_500_000_000_000_000_000


class Archives:
    """A data set of ten digits, packed: `root` has the lists only, `loose` is what was packed."""

    def __init__(self, loose: Path, folder: Path) -> None:
        self.loose, self.folder, self.root = loose, folder, folder / "root"
        self.train, self.val = folder / "ILSVRC2012_img_train.tar", folder / "ILSVRC2012_img_val.tar"
        self.root.mkdir(parents=True)
        for path in loose.glob("*_list.txt"):
            shutil.copy(path, self.root)

    def pack(self) -> None:
        """Pack the loose images as ImageNet is packed: a tar of tars, and a flat tar; old, as a download is."""
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
        """Let the archives be of another time."""
        for path in (self.train, self.val):
            os.utime(path, ns=(at_ns, at_ns))

    def scan(self, **options: Any) -> pd.DataFrame:
        """Scan the archives, in this process unless the options say otherwise."""
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
    """The digits, last changed long ago, loose and packed."""
    for path in digits.rglob("*.JPEG"):
        os.utime(path, ns=(LONG_AGO_NS, LONG_AGO_NS))
    packed = Archives(digits, tmp_path / "packed")
    packed.pack()
    return packed


class Reader:
    """Reads as processes do, and notes the tasks."""

    def __init__(self) -> None:
        self.tasks: list[InspectionTask] = []

    def __call__(self, tasks: Sequence[InspectionTask]) -> Iterator[Columns]:
        """Yield what is found, in the order of the tasks."""
        for task in tasks:
            self.tasks.append(task)
            yield run_task(task)


def files_below(folder: Path) -> set[str]:
    """Return the path of everything below a folder."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


# ── the manifest ──


@pytest.mark.parametrize("level", SCAN_LEVELS)
def test_the_manifest_is_that_of_the_unpacked_images(archives: Archives, level: str) -> None:
    """Path, size, time, digest and all else are what a scan of the loose images finds; nothing is unpacked."""
    before = files_below(archives.folder)
    pd.testing.assert_frame_equal(archives.scan(level=level), archives.scan_loose(level=level))
    assert files_below(archives.folder) == before


@pytest.mark.parametrize("level", SCAN_LEVELS)
def test_unpacking_here_changes_no_row(archives: Archives, tmp_path: Path, level: str) -> None:
    """What `unpack` writes is what was scanned: also the times of change are those of the archive."""
    root = shutil.copytree(archives.root, tmp_path / "unpacked")
    unpack_archives(root, {"train": archives.train, "val": archives.val})
    archives.loose = root
    pd.testing.assert_frame_equal(archives.scan(level=level), archives.scan_loose(level=level))


def test_a_folder_of_class_archives_gives_the_same(archives: Archives) -> None:
    """So do the thousand tars of the train archive, lying in a folder."""
    expected = archives.scan()
    folder = archives.folder / "classes"
    folder.mkdir()
    with tarfile.open(archives.train) as outer:
        for member in outer:
            (folder / member.name).write_bytes(outer.extractfile(member).read())
    archives.train = folder
    pd.testing.assert_frame_equal(archives.scan(), expected)


def test_processes_and_ranges_give_the_same(archives: Archives, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many processes list and read ranges of an archive, the manifest is the same."""
    expected = archives.scan()
    monkeypatch.setattr(archived_images, "_BYTES_WORTH_A_POOL", 0)
    monkeypatch.setitem(inspection_pool._IMAGES_PER_TASK, "full", 3)
    monkeypatch.setitem(inspection_pool._IMAGES_WORTH_A_POOL, "full", 1)
    one = index_archives({"train": archives.train}, 1)["train"]
    two = index_archives({"train": archives.train}, 2)["train"]
    assert (one.names, one.offsets.tolist(), one.sizes.tolist()) == (
        two.names,
        two.offsets.tolist(),
        two.sizes.tolist(),
    )
    pd.testing.assert_frame_equal(archives.scan(executor=choose_executor("processes", 2)), expected)


def test_an_archive_is_read_in_its_own_order(archives: Archives) -> None:
    """Shuffled lists do not make the disk seek: an archive is read from its front to its end."""
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


def test_lists_are_made_from_archives(archives: Archives) -> None:
    """Without list files, they are those that the folders would give; the classes are the sorted synsets."""
    for folder in (archives.root, archives.loose):
        for path in folder.glob("*_list.txt"):
            path.unlink()
    pd.testing.assert_frame_equal(archives.scan(level="structure"), archives.scan_loose(level="structure"))


def test_a_flat_val_archive_has_its_classes_from_a_ground_truth(archives: Archives) -> None:
    """The devkit's order of images holds for the members of the val archive as it does for files."""
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
    with pytest.raises(
        ListFileError, match=r"ILSVRC2012_img_val\.tar: has no class folders .* dataset\.val_ground_truth"
    ):
        archives.scan()


def test_one_split_may_be_packed_and_the_other_loose(archives: Archives) -> None:
    """The val archive goes with a train folder; labels come from that folder."""
    shutil.copytree(archives.loose / "train", archives.root / "train")
    layout = find_layout(archives.root, archives={"val": archives.val})
    lists = {split: one.entries for split, one in read_lists(layout, 10).items()}
    manifest = scan_dataset(archives.root, lists, 1, archived=index_archives(layout.archives, 1))
    pd.testing.assert_frame_equal(manifest, archives.scan_loose())


def test_an_archive_that_is_not_there_is_told(archives: Archives) -> None:
    """A mistyped name is told before anything is read."""
    with pytest.raises(DatasetNotFoundError, match=r"the archive .*typo\.tar is missing"):
        find_layout(archives.root, archives={"train": Path("typo.tar"), "val": archives.val})


# ── faults ──


def test_what_a_list_names_and_the_archive_has_not_is_missing(archives: Archives) -> None:
    """Also where a file of that name lies below the root; and what no list names is told."""
    path = archives.root / "train_list.txt"
    first, second, *others = path.read_text().splitlines(keepends=True)
    path.write_text("".join([first.replace("/", "/not_", 1), *others]))
    loose = archives.root / "train" / first.split(" ")[0].replace("/", "/not_", 1)
    loose.parent.mkdir(parents=True)
    loose.write_bytes(b"")
    manifest = archives.scan()
    row = manifest.iloc[0]
    assert (row["status"], row["bytes"]) == ("missing", 0)
    assert row["problem"].startswith("is not in dataset.train_archive →")
    unlisted = manifest[manifest["status"] == "unlisted"]["path"].tolist()
    assert unlisted == sorted(f"train/{line.split(' ')[0]}" for line in (first, second))


@pytest.mark.parametrize("level", ["header", "full"])
def test_faults_of_images_are_found_in_archives(archives: Archives, level: str) -> None:
    """Cut off, empty, a web page, bytes behind the end: each is what it is as a loose file."""
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


def test_an_archive_that_shrinks_meanwhile_makes_images_undecodable(archives: Archives) -> None:
    """What is behind its end by the time that it is read is no whole image; the scan goes on."""

    def read_what_is_left(tasks: Sequence[InspectionTask]) -> Iterator[Columns]:
        os.truncate(archives.train, archives.train.stat().st_size // 2)
        return map(run_task, tasks)

    status = archives.scan(executor=read_what_is_left)["status"].tolist()
    assert 0 < status.count("undecodable") < 40
    archives.pack()

    def read_nothing(tasks: Sequence[InspectionTask]) -> Iterator[Columns]:
        archives.train.unlink()
        return map(run_task, tasks)

    problems = archives.scan(executor=read_nothing).query("status == 'not_a_file'")["problem"]
    assert len(problems) == 40
    assert problems.str.contains("make the archive readable").all()


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
def test_an_archive_that_escapes_is_not_scanned(archives: Archives, name: str, level: str) -> None:
    """Fault 44: a member that leads elsewhere stops every level before an image is read; nothing is written."""
    member, kind, target = ESCAPES[name]
    info = tarfile.TarInfo(member)
    info.type, info.linkname = kind, target
    with tarfile.open(archives.val, "a") as archive:
        archive.addfile(info)
    before = files_below(archives.folder.parent)
    reader = Reader()
    with pytest.raises(DatasetError, match="do not trust this archive"):
        archives.scan(level=level, executor=reader, cache_dir=archives.folder / "cache")
    assert reader.tasks == []
    assert files_below(archives.folder.parent) == before


@pytest.mark.parametrize("mtime", [-1.0, 1e30, 10.0**15])
def test_absurd_times_of_members_are_no_fault(archives: Archives, mtime: float) -> None:
    """A time before 1970, or of the far future, is read, and unpacked, without ado."""
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


def test_swapped_archives_are_told(archives: Archives) -> None:
    """A flat archive is no train archive."""
    for path in (archives.loose / "val").rglob("*.JPEG"):
        path.rename(archives.loose / "val" / path.name)
    archives.pack()
    with pytest.raises(DatasetError, match="is it the val archive"):
        index_archives({"train": archives.val})


# ── the cache ──


@pytest.mark.parametrize("level", ["header", "full"])
def test_a_second_scan_of_archives_reads_nothing(archives: Archives, tmp_path: Path, level: str) -> None:
    """As long as an archive has its size and time, what is known of its images holds."""
    first = archives.scan(level=level, cache_dir=tmp_path / "cache")
    reader = Reader()
    second = archives.scan(level=level, cache_dir=tmp_path / "cache", executor=reader)
    assert reader.tasks == []
    pd.testing.assert_frame_equal(first, second)


def test_another_archive_is_read_anew(archives: Archives, tmp_path: Path) -> None:
    """Where an archive was replaced, members of the same name, size and time are not believed to be the same."""
    archives.scan(cache_dir=tmp_path / "cache")
    archives.age(LONG_AGO_NS + 1)
    reader = Reader()
    archives.scan(cache_dir=tmp_path / "cache", executor=reader)
    assert sum(len(task.paths) for task in reader.tasks) == 60


def test_loose_images_are_not_believed_to_be_those_of_the_archive(archives: Archives, tmp_path: Path) -> None:
    """What the archive had says nothing of a file that was unpacked from it: writing may have failed."""
    archives.scan(cache_dir=tmp_path / "cache")
    unpack_archives(archives.root, {"train": archives.train, "val": archives.val})
    archives.loose = archives.root
    reader = Reader()
    archives.scan_loose(cache_dir=tmp_path / "cache", executor=reader)
    assert sum(len(task.paths) for task in reader.tasks) == 60


def test_an_archive_that_was_changed_a_moment_ago_is_not_remembered(archives: Archives, tmp_path: Path) -> None:
    """It may be that it is still being copied."""
    archives.train.touch()
    archives.scan(cache_dir=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


# ── MD5 ──


def test_archives_are_verified_against_the_published_digests(
    archives: Archives, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The right one passes, any other is an error with both digests; what has none published says so."""
    right = hashlib.md5(archives.val.read_bytes(), usedforsecurity=False).hexdigest()
    monkeypatch.setattr(published_archives, "PUBLISHED_MD5", {"train": "0" * 32, "val": right})
    require_published({"val": archives.val})
    with pytest.raises(DatasetError, match=rf"ILSVRC2012_img_train\.tar: has the MD5 [0-9a-f]+, but .* has {'0' * 32}"):
        require_published({"val": archives.val, "train": archives.train})
    with pytest.raises(ParameterError, match="is a folder, and for archives of classes no MD5 is published"):
        require_published({"train": archives.root})
    with pytest.raises(ParameterError, match="none is named"):
        require_published({})
