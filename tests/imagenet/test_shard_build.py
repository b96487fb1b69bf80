"""Shard sets are reproducible, follow the order of the lists, and record how they changed the images."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from packed_dataset import files_of, loose_images, pack, read_lists
from resnet50_pipeline.exceptions import DatasetError, OutputDirectoryInUseError
from resnet50_pipeline.imagenet.shards.build import SplitToPack, build_shard_set, resolve_packing, write_no_shard_set
from resnet50_pipeline.imagenet.shards.fidelity import apply_eval_transforms
from resnet50_pipeline.imagenet.shards.shard_set import read_shard_set, resolve_shards
from resnet50_pipeline.imagenet.shards.source import open_images
from resnet50_pipeline.imagenet.shards.task import PackedImages, ShardTask, build_shard
from resnet50_pipeline.imaging.decode import decode_image
from resnet50_pipeline.imaging.geometry import ResizeImage
from resnet50_pipeline.parameters import ShardParameters

CLASSES = 3
MODES = ("original", "jpeg-256", "raw-256")
# One photograph is stored rotated, with an EXIF orientation.
TURNED = "val/n2/turned.JPEG"


@pytest.fixture(scope="session")
def pictures(tmp_path_factory) -> Path:
    """Smooth pictures with grain, about 400 pixels wide, small and large, upright and rotated, with unsorted lists."""
    root = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    for split, count in (("train", 7), ("val", 3)):
        paths = []
        for label in range(CLASSES):
            for number in range(count):
                side = (200 if number == 1 else 400, 200 if number == 1 else 300 + 60 * label)
                path = root / split / f"n{label}" / f"n{label}_{number}.JPEG"
                path.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(path), smooth_picture(random, *side), [cv2.IMWRITE_JPEG_QUALITY, 97])
                paths.append(f"{split}/n{label}/{path.name} {label}\n")
        if split == "val":
            exif = Image.Exif()
            exif[0x0112] = 6
            Image.open(root / "val/n2/n2_0.JPEG").save(root / TURNED, exif=exif, quality=97)
            paths.append(f"{TURNED} 2\n")
        random.shuffle(paths)
        (root / f"{split}_list.txt").write_text("".join(paths))
    return root


def smooth_picture(random: np.random.Generator, height: int, width: int) -> np.ndarray:
    coarse = random.integers(0, 256, (8, 8, 3)).astype(np.uint8)
    picture = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.int16)
    return np.clip(picture + random.integers(-8, 9, picture.shape), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("mode", MODES)
def test_each_row_gives_its_image(pictures: Path, tmp_path: Path, mode):
    """Each row gives the image's bytes, or its resized pixels with the EXIF orientation applied once."""
    pack(pictures, tmp_path / "shards", mode, CLASSES)
    for entries in read_lists(pictures, CLASSES).values():
        source = open_images(entries, pictures, tmp_path / "shards")
        for row, path in enumerate(entries.paths):
            data, own = source.read(row), (pictures / path).read_bytes()
            if mode == "original":
                assert data == own
                continue
            pixels, seen = decode_image(own), decode_image(data)
            if min(pixels.shape[:2]) > 256:
                pixels = ResizeImage(resize_short=256).apply(pixels, None)
            assert seen.shape == pixels.shape
            if mode == "raw-256" or min(pixels.shape[:2]) < 256:
                np.testing.assert_array_equal(seen, pixels)
            else:
                assert cv2.PSNR(seen, pixels) > 30
            assert path.rpartition("/")[2] in source.name(row)


def test_rotated_photograph_is_packed_upright(pictures: Path, tmp_path: Path):
    """A photograph rotated by EXIF is packed upright and without an orientation."""
    upright = decode_image((pictures / TURNED).read_bytes()).shape
    assert upright[:2] != Image.open(pictures / TURNED).size[::-1]
    for mode in ("jpeg-256", "raw-256"):
        pack(pictures, tmp_path / mode, mode, CLASSES)
        entries = read_lists(pictures, CLASSES)["val"]
        data = open_images(entries, pictures, tmp_path / mode).read(list(entries.paths).index(TURNED))
        factor = 256 / min(upright[:2])
        assert decode_image(data).shape[:2] == (round(upright[0] * factor), round(upright[1] * factor))
        assert b"Exif" not in data


@pytest.mark.parametrize("mode", MODES)
def test_the_same_images_give_the_same_bytes(pictures: Path, tmp_path: Path, mode, monkeypatch):
    """The bytes of a set depend neither on the number of processes nor on time or folder."""
    one = pack(pictures, tmp_path / "one", mode, CLASSES)
    monkeypatch.setattr("resnet50_pipeline.imagenet.shards.build._MIN_IMAGES_FOR_POOL", 0)
    monkeypatch.setattr(time, "time", lambda: 2_000_000_000.0)
    lists = read_lists(pictures, CLASSES)
    other = build_shard_set(
        tmp_path / "other",
        {split: SplitToPack(entries, loose_images(pictures, entries)) for split, entries in lists.items()},
        resolve_packing(mode, ShardParameters()),
        images_per_shard=5,
        workers=2,
    )
    assert one == other == read_shard_set(tmp_path / "one")
    assert files_of(tmp_path / "one") == files_of(tmp_path / "other")


def test_shard_has_one_class_and_limited_size(pictures: Path, tmp_path: Path):
    """With five images per shard, seven images of a class are packed into two shards, named after class and folder."""
    splits = pack(pictures, tmp_path / "shards", "original", CLASSES).splits
    names = [(shard.name, shard.images) for shard in splits["train"].shards]
    assert names[:3] == [("train/0000-n0-000.tar", 5), ("train/0000-n0-001.tar", 2), ("train/0001-n1-000.tar", 5)]
    index = np.load(tmp_path / "shards" / "train.npy", mmap_mode="r")
    assert index["label"].tolist() == read_lists(pictures, CLASSES)["train"].labels.tolist()
    assert {(int(row["shard"]) // 2, int(row["label"])) for row in index} == {(0, 0), (1, 1), (2, 2)}


def test_set_records_its_fidelity(pictures: Path, tmp_path: Path):
    """The original and raw-256 modes preserve evaluation pixels; the PSNR of jpeg-256 increases with quality."""
    found = {}
    for name, mode, quality in (
        ("o", "original", 90),
        ("r", "raw-256", 90),
        ("j", "jpeg-256", 60),
        ("k", "jpeg-256", 95),
    ):
        found[name] = pack(pictures, tmp_path / name, mode, CLASSES, jpeg_quality=quality).fidelity
    for name in ("o", "r"):
        assert (found[name].images, found[name].identical, found[name].mean_psnr_db) == (10, 10, None)
        assert "10 val images" in str(found[name])
    assert found["j"].identical == found["k"].identical == 3  # those that are small anyway
    assert 25 < found["j"].mean_psnr_db < found["k"].mean_psnr_db
    assert found["j"].lowest_psnr_db <= found["j"].mean_psnr_db
    entries = read_lists(pictures, CLASSES)["val"]
    packed = open_images(entries, pictures, tmp_path / "j")
    by_hand = [
        -10
        * np.log10(np.mean((apply_eval_transforms(packed.read(row)) / 255.0 - apply_eval_transforms(own) / 255.0) ** 2))
        for row, path in enumerate(entries.paths)
        if not np.array_equal(
            apply_eval_transforms(packed.read(row)), apply_eval_transforms(own := (pictures / path).read_bytes())
        )
    ]
    assert found["j"].mean_psnr_db == pytest.approx(np.mean(by_hand), abs=1e-6)


def test_interpolation_is_part_of_the_packing(pictures: Path, tmp_path: Path):
    """The `area` interpolation is recorded and changes the evaluation pixels."""
    packed = pack(pictures, tmp_path / "a", "raw-256", CLASSES, interpolation="area")
    assert packed.packing.interpolation == "area"
    assert packed.fidelity.mean_psnr_db is not None


# ── rebuilding and resuming ──


def test_rebuild_keeps_intact_shards(pictures: Path, tmp_path: Path):
    """A second build writes only damaged and missing shards, and deletes shards of other sets."""
    folder = tmp_path / "shards"
    pack(pictures, folder, "original", CLASSES)
    expected = files_of(folder)
    before = {path: path.stat().st_ino for path in folder.glob("*/*.tar")}
    pack(pictures, folder, "original", CLASSES)
    assert {path: path.stat().st_ino for path in folder.glob("*/*.tar")} == before
    flipped, gone = sorted(before)[:2]
    data = bytearray(flipped.read_bytes())
    data[3000] ^= 1
    flipped.write_bytes(data)
    gone.unlink()
    (folder / "train" / ".0000-n0-000.tar.00000000.tmp").write_bytes(b"half")
    (folder / "train" / "0009-n9-000.tar").write_bytes(b"of another set")
    pack(pictures, folder, "original", CLASSES)
    assert files_of(folder) == expected
    pack(pictures, folder, "jpeg-256", CLASSES)
    assert read_shard_set(folder).packing.mode == "jpeg-256"
    pack(pictures, folder, "original", CLASSES)
    assert files_of(folder) == expected


def test_foreign_files_are_kept(pictures: Path, tmp_path: Path):
    """Files with other names, such as ImageNet's class archives, are never deleted."""
    folder = tmp_path / "imagenet"
    others = [folder / name for name in ("train/n01440764.tar", "ILSVRC/val.tar", "features.npy", "train/.a.tmp")]
    for path in others:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"whose?")
    pack(pictures, folder, "original", CLASSES)
    assert [path.read_bytes() for path in others] == [b"whose?"] * 4


def test_only_the_shard_of_a_changed_image_is_rebuilt(digits: Path, tmp_path: Path):
    """Without digests, size and modification time detect a changed image, and only its shard is rebuilt."""
    for split in ("train", "val"):
        path = digits / f"{split}_list.txt"
        path.write_text("".join(f"{split}/{line}" for line in path.read_text().splitlines(keepends=True)))
    folder = tmp_path / "shards"
    pack(digits, folder, "original", 10)
    before = {path.name: path.stat().st_ino for path in folder.glob("train/*.tar")}
    entries = read_lists(digits, 10)["train"]
    changed = digits / entries.paths[6]
    changed.write_bytes((digits / entries.paths[0]).read_bytes())
    pack(digits, folder, "original", 10)
    after = {path.name: path.stat().st_ino for path in folder.glob("train/*.tar")}
    assert [name for name in before if before[name] != after[name]] == ["0001-n00000001-000.tar"]
    assert open_images(entries, digits, folder).read(6) == changed.read_bytes()


PACKER = """
import sys
from pathlib import Path
from packed_dataset import pack
if __name__ == "__main__":
    pack(Path(sys.argv[1]), Path(sys.argv[2]), "jpeg-256", 3, images_per_shard=1)
"""


@pytest.mark.slow
def test_killed_build_resumes(pictures: Path, tmp_path: Path):
    """After SIGKILL, finished shards are kept, there is no set until the end, and the result is the same."""
    pack(pictures, tmp_path / "whole", "jpeg-256", CLASSES, images_per_shard=1)
    program = tmp_path / "packer.py"
    program.write_text(PACKER)
    folder = tmp_path / "killed"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    kept: dict[Path, int] = {}
    for wanted in (2, 9, 20):
        process = subprocess.Popen([sys.executable, program, pictures, folder], env=environment)
        deadline = time.monotonic() + 60
        while len(list(folder.glob("*/*.tar"))) < wanted and process.poll() is None:
            assert time.monotonic() < deadline
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert process.returncode == -signal.SIGKILL
        assert not (folder / "shard_set.json").exists()
        with pytest.raises(DatasetError, match=r"shard_set\.json"):
            resolve_shards(folder)
        found = {path: path.stat().st_ino for path in folder.glob("*/*.tar")}
        assert kept.items() <= found.items()
        kept = found
    subprocess.run([sys.executable, program, pictures, folder], env=environment, check=True)
    assert kept.items() <= {path: path.stat().st_ino for path in folder.glob("*/*.tar")}.items()
    assert files_of(folder) == files_of(tmp_path / "whole")


# ── faults ──


def test_undecodable_image_stops_the_build(digits: Path, tmp_path: Path):
    """The error that stops the build identifies the undecodable image; finished shards remain, but there is no set."""
    for split in ("train", "val"):
        path = digits / f"{split}_list.txt"
        path.write_text("".join(f"{split}/{line}" for line in path.read_text().splitlines(keepends=True)))
    broken = digits / read_lists(digits, 10)["train"].paths[-1]
    broken.write_bytes(broken.read_bytes()[:100])
    with pytest.raises(DatasetError, match=re.escape(f"{broken}: ")):
        pack(digits, tmp_path / "shards", "raw-256", 10)
    assert not (tmp_path / "shards" / "shard_set.json").exists()
    assert len(list((tmp_path / "shards").glob("train/*.tar"))) == 9
    broken.unlink()
    with pytest.raises(DatasetError, match=f"{broken} .*No such file .*data_validation"):
        pack(digits, tmp_path / "shards", "original", 10)


def test_archived_image_is_named_with_its_archive(tmp_path: Path):
    """The error for an archived image includes both the archive and the image."""
    (tmp_path / "train.tar").write_bytes(b"\xff\xd8 cut off")
    images = PackedImages(["train/n0/a.JPEG"], [str(tmp_path / "train.tar")], [0], [10], [""])
    packing = resolve_packing("raw-256", ShardParameters())
    with pytest.raises(DatasetError, match=r"train\.tar:train/n0/a\.JPEG: "):
        build_shard(ShardTask(tmp_path / "train" / "0000-n0-000.tar", packing, images))


def test_concurrent_build_is_refused(pictures: Path, tmp_path: Path):
    """A second, concurrent build of the same folder is rejected."""
    import fcntl

    folder = tmp_path / "shards"
    folder.mkdir()
    descriptor = os.open(folder, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with pytest.raises(OutputDirectoryInUseError, match=str(folder)):
        pack(pictures, folder, "original", CLASSES)
    os.close(descriptor)


def test_full_disk_keeps_finished_shards(digits: Path, tmp_path: Path, monkeypatch):
    """A disk that is full at any write is reported, and a second build completes the same set."""
    for split in ("train", "val"):
        path = digits / f"{split}_list.txt"
        path.write_text("".join(f"{split}/{line}" for line in path.read_text().splitlines(keepends=True)))
    pack(digits, tmp_path / "whole", "original", 10, images_per_shard=99)
    expected = files_of(tmp_path / "whole")
    real, calls = os.fsync, []

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    # Each file and its folder are flushed. A shard is flushed once more before it is read back.
    flushes = 3 * 20 + 2 * 3
    for at in (1, 5, 30, *range(flushes - 5, flushes + 1)):
        folder = tmp_path / str(at)
        calls.clear()
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(DatasetError, match="No space left"):
                pack(digits, folder, "original", 10, images_per_shard=99)
        assert not list(folder.rglob(".*.tmp"))
        assert len(list(folder.glob("*/*.tar"))) >= min(20, at // 3)
        pack(digits, folder, "original", 10, images_per_shard=99)
        assert files_of(folder) == expected


def test_description_without_shards_means_loose_files(tmp_path: Path, pictures: Path, caplog):
    """Without a mode, the description says that images are loose files, and existing shards are kept and logged."""
    folder = tmp_path / "shards"
    write_no_shard_set(folder)
    assert resolve_shards(folder) is None
    assert json.loads((folder / "shard_set.json").read_text())["packing"] is None
    pack(pictures, folder, "original", CLASSES)
    write_no_shard_set(folder)
    assert resolve_shards(folder) is None
    assert len(list(folder.glob("*/*.tar"))) == 9
    assert "9 shards" in caplog.text
