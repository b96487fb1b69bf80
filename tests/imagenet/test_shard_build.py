"""A shard set is the same however it came to be, has the lists' images in their order, and says what it changed."""

from __future__ import annotations

import json
import os
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
from resnet50_pipeline.imagenet.shard_build import SplitToPack, build_shard_set, describe_packing, write_no_shard_set
from resnet50_pipeline.imagenet.shard_fidelity import evaluated_pixels
from resnet50_pipeline.imagenet.shard_set import find_shards, read_shard_set
from resnet50_pipeline.imagenet.shard_source import open_images
from resnet50_pipeline.imagenet.shard_task import PackedImages, ShardTask, make_shard
from resnet50_pipeline.imaging.decode import decode_image
from resnet50_pipeline.imaging.geometry import ResizeImage
from resnet50_pipeline.parameters import ShardParameters

CLASSES = 3
MODES = ("original", "jpeg-256", "raw-256")
# One photograph lies on its side, for a viewer that knows no EXIF.
TURNED = "val/n2/turned.JPEG"


@pytest.fixture(scope="session")
def pictures(tmp_path_factory) -> Path:
    """Smooth pictures with grain of about 400 pixels, large and small, upright and turned; the lists are not sorted."""
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
def test_every_row_of_a_list_is_its_image(pictures: Path, tmp_path: Path, mode):
    """Row by row, in the lists' order: the bytes themselves, or the pixels of short side 256, EXIF applied once."""
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


def test_a_turned_photograph_is_packed_upright(pictures: Path, tmp_path: Path):
    """What was turned by its EXIF orientation is wide or high as it is seen, and has no orientation left to apply."""
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
    """By one process or by two, today or on another day, in this folder or in that: every file is equal."""
    one = pack(pictures, tmp_path / "one", mode, CLASSES)
    monkeypatch.setattr("resnet50_pipeline.imagenet.shard_build._IMAGES_WORTH_A_POOL", 0)
    monkeypatch.setattr(time, "time", lambda: 2_000_000_000.0)
    lists = read_lists(pictures, CLASSES)
    other = build_shard_set(
        tmp_path / "other",
        {split: SplitToPack(entries, loose_images(pictures, entries)) for split, entries in lists.items()},
        describe_packing(mode, ShardParameters(output_dir=tmp_path)),
        images_per_shard=5,
        workers=2,
    )
    assert one == other == read_shard_set(tmp_path / "one")
    assert files_of(tmp_path / "one") == files_of(tmp_path / "other")


def test_a_shard_has_images_of_one_class_and_no_more_than_asked_for(pictures: Path, tmp_path: Path):
    """Seven images of a class are two shards of at most five; all are named by class and folder."""
    splits = pack(pictures, tmp_path / "shards", "original", CLASSES).splits
    names = [(shard.name, shard.images) for shard in splits["train"].shards]
    assert names[:3] == [("train/0000-n0-000.tar", 5), ("train/0000-n0-001.tar", 2), ("train/0001-n1-000.tar", 5)]
    index = np.load(tmp_path / "shards" / "train.npy", mmap_mode="r")
    assert index["label"].tolist() == read_lists(pictures, CLASSES)["train"].labels.tolist()
    assert {(int(row["shard"]) // 2, int(row["label"])) for row in index} == {(0, 0), (1, 1), (2, 2)}


def test_the_set_says_how_far_its_pixels_are_from_the_images(pictures: Path, tmp_path: Path):
    """Own bytes and raw-256 change nothing that an evaluation sees; jpeg-256 has its PSNR, which grows with quality."""
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
        assert "every pixel that an evaluation sees is the same" in str(found[name])
    assert found["j"].identical == found["k"].identical == 3  # those that are small anyway
    assert 25 < found["j"].mean_psnr_db < found["k"].mean_psnr_db
    assert found["j"].lowest_psnr_db <= found["j"].mean_psnr_db
    entries = read_lists(pictures, CLASSES)["val"]
    packed = open_images(entries, pictures, tmp_path / "j")
    by_hand = [
        -10 * np.log10(np.mean((evaluated_pixels(packed.read(row)) / 255.0 - evaluated_pixels(own) / 255.0) ** 2))
        for row, path in enumerate(entries.paths)
        if not np.array_equal(
            evaluated_pixels(packed.read(row)), evaluated_pixels(own := (pictures / path).read_bytes())
        )
    ]
    assert found["j"].mean_psnr_db == pytest.approx(np.mean(by_hand), abs=1e-6)


def test_interpolation_of_area_is_another_packing(pictures: Path, tmp_path: Path):
    """It is written down, and what an evaluation sees is no longer exactly the image's."""
    packed = pack(pictures, tmp_path / "a", "raw-256", CLASSES, interpolation="area")
    assert packed.packing.interpolation == "area"
    assert packed.fidelity.mean_psnr_db is not None


# ── again, and after an end that was not foreseen ──


def test_what_is_there_is_kept_and_what_is_damaged_is_made_anew(pictures: Path, tmp_path: Path):
    """A second run writes no shard again but one with a flipped bit and one that is gone; what is foreign goes."""
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


def test_archives_of_somebody_else_stay(pictures: Path, tmp_path: Path):
    """ImageNet's own archives, one a class, and arrays of any name: in the folder by mistake, but not ours."""
    folder = tmp_path / "imagenet"
    others = [folder / name for name in ("train/n01440764.tar", "ILSVRC/val.tar", "features.npy", "train/.a.tmp")]
    for path in others:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"whose?")
    pack(pictures, folder, "original", CLASSES)
    assert [path.read_bytes() for path in others] == [b"whose?"] * 4


def test_an_image_that_was_changed_is_packed_anew(digits: Path, tmp_path: Path):
    """Without digests, size and time of change say so; only the shard that has it is made."""
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
def test_a_build_that_was_killed_goes_on_where_it_was(pictures: Path, tmp_path: Path):
    """SIGKILL, again and again: finished shards stay, no set is there before the end, and the end is the same."""
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
        with pytest.raises(DatasetError, match=r"shard_set\.json: is not there, so the shard set is not finished"):
            find_shards(folder)
        found = {path: path.stat().st_ino for path in folder.glob("*/*.tar")}
        assert kept.items() <= found.items()
        kept = found
    subprocess.run([sys.executable, program, pictures, folder], env=environment, check=True)
    assert kept.items() <= {path: path.stat().st_ino for path in folder.glob("*/*.tar")}.items()
    assert files_of(folder) == files_of(tmp_path / "whole")


# ── faults ──


def test_an_image_that_cannot_be_decoded_stops_the_build_with_its_name(digits: Path, tmp_path: Path):
    """No set is there, finished shards are, and the message names the file and what to do."""
    for split in ("train", "val"):
        path = digits / f"{split}_list.txt"
        path.write_text("".join(f"{split}/{line}" for line in path.read_text().splitlines(keepends=True)))
    broken = digits / read_lists(digits, 10)["train"].paths[-1]
    broken.write_bytes(broken.read_bytes()[:100])
    with pytest.raises(DatasetError, match=f"{broken}: was cut off: 100 bytes .*download or copy it again"):
        pack(digits, tmp_path / "shards", "raw-256", 10)
    assert not (tmp_path / "shards" / "shard_set.json").exists()
    assert len(list((tmp_path / "shards").glob("train/*.tar"))) == 9
    broken.unlink()
    with pytest.raises(DatasetError, match=f"{broken}: cannot be read: No such file .*Run data_validation again"):
        pack(digits, tmp_path / "shards", "original", 10)


def test_an_image_in_an_archive_is_named_with_it(tmp_path: Path):
    """That of 150,000 images of an archive one cannot be decoded helps nobody."""
    (tmp_path / "train.tar").write_bytes(b"\xff\xd8 cut off")
    images = PackedImages(["train/n0/a.JPEG"], [str(tmp_path / "train.tar")], [0], [10], [""])
    packing = describe_packing("raw-256", ShardParameters(output_dir=tmp_path))
    with pytest.raises(DatasetError, match=r"train\.tar:train/n0/a\.JPEG: was cut off"):
        make_shard(ShardTask(tmp_path / "train" / "0000-n0-000.tar", packing, images))


def test_two_builds_do_not_meet(pictures: Path, tmp_path: Path):
    """The second process is told, and the first goes on."""
    import fcntl

    folder = tmp_path / "shards"
    folder.mkdir()
    descriptor = os.open(folder, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with pytest.raises(OutputDirectoryInUseError, match="another process makes shards in it → wait for its end"):
        pack(pictures, folder, "original", CLASSES)
    os.close(descriptor)


def test_a_full_disk_is_told_and_leaves_what_is_finished(pictures: Path, tmp_path: Path, monkeypatch):
    """The message says that shards are kept; no temporary file stays."""
    import errno

    real = os.fsync
    calls = []

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) > 8:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DatasetError, match=r"\.tar: cannot be written: No space left .* finished are kept"):
        pack(pictures, tmp_path / "shards", "original", CLASSES)
    assert not list((tmp_path / "shards").rglob(".*.tmp"))
    assert list((tmp_path / "shards").glob("train/*.tar"))


def test_no_shards_are_a_set_that_says_so(tmp_path: Path, pictures: Path, caplog):
    """Whoever reads it takes loose files; shards of before stay, and the log says that they are not read."""
    folder = tmp_path / "shards"
    write_no_shard_set(folder)
    assert find_shards(folder) is None
    assert json.loads((folder / "shard_set.json").read_text())["packing"] is None
    pack(pictures, folder, "original", CLASSES)
    write_no_shard_set(folder)
    assert find_shards(folder) is None
    assert len(list(folder.glob("*/*.tar"))) == 9
    assert "9 shards" in caplog.text
