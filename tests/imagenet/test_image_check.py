"""Images that change after validation, or before a training run is resumed, are named."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from resnet50_pipeline.exceptions import CheckpointError, DatasetError, ImagesChangedError
from resnet50_pipeline.imagenet.identities import (
    IDENTITY_DTYPE,
    ImageIdentities,
    require_same_images,
    save_identities,
)
from resnet50_pipeline.imagenet.image_check import find_untrained_images, require_validated_images
from resnet50_pipeline.imagenet.layout import find_layout, read_lists
from resnet50_pipeline.imagenet.lists.files import ListEntries, Split
from resnet50_pipeline.imagenet.scan import unchanged
from resnet50_pipeline.imagenet.scan.scan import scan_dataset
from resnet50_pipeline.imagenet.shards.packing import pack_dataset
from resnet50_pipeline.parameters import ShardParameters

LONG_AGO_NS = 1_500_000_000_000_000_000


def lists_of(root: Path) -> dict[Split, ListEntries]:
    return {split: prefixed.entries for split, prefixed in read_lists(find_layout(root), 10).items()}


class Validated:
    """A dataset and the results of its scan.

    Attributes:
        root: dataset folder.
        read: paths that the last check read.
    """

    def __init__(self, root: Path, results: Path) -> None:
        self.root, self._results = root, results
        self.read: list[str] = []

    def scan(self, level: str = "full", *, cache: bool = True) -> None:
        """Scan the dataset and write the manifest."""
        manifest = scan_dataset(
            self.root, lists_of(self.root), 1, level=level, cache_dir=self._results / "cache" if cache else None
        )
        manifest.to_parquet(self._results / "manifest.parquet", index=False)

    def check(self, *splits: Split, cache: bool = True, shards: Path | None = None) -> ImageIdentities:
        """Check the images of some splits, by default both."""
        self.read = []
        return require_validated_images(
            self.root,
            {split: entries for split, entries in lists_of(self.root).items() if not splits or split in splits},
            self._results / "manifest.parquet",
            shards=shards,
            cache_dir=self._results / "cache" if cache else None,
            workers=1,
        )

    def pack(self, mode: str) -> Path:
        """Pack shards and return their folder."""
        pack_dataset(
            root=self.root,
            lists=lists_of(self.root),
            manifest_file=self._results / "manifest.parquet",
            folder=self._results / "shards",
            parameters=ShardParameters(mode=mode, workers=1),
        )
        return self._results / "shards"

    def images(self, split: Split = "train") -> list[Path]:
        """Return the paths of the images of a split."""
        return sorted((self.root / split).rglob("*.JPEG"))

    def name(self, path: Path) -> str:
        """Return the path of an image as it appears in the list."""
        return path.relative_to(self.root).as_posix()


@pytest.fixture
def validated(digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Validated:
    """A scanned dataset whose files are old enough for the scan cache. No sample is read."""
    for path in digits.rglob("*.JPEG"):
        os.utime(path, ns=(LONG_AGO_NS, LONG_AGO_NS))
    dataset = Validated(digits, tmp_path)
    dataset.scan()
    monkeypatch.setattr(unchanged, "SAMPLE", 0)
    read_file = unchanged._digest_file

    def record(path: str) -> str:
        dataset.read.append(Path(path).relative_to(dataset.root).as_posix())
        return read_file(path)

    monkeypatch.setattr(unchanged, "_digest_file", record)
    return dataset


def replace_in_place(path: Path, other: Path) -> None:
    """Overwrite the file with another image, keeping its inode."""
    path.write_bytes(other.read_bytes())


def replace_by_rename(path: Path, other: Path) -> None:
    """Move a copy of another image over the file, keeping the size and modification time of the original."""
    copy = path.with_name("copy")
    copy.write_bytes(other.read_bytes()[: path.stat().st_size].ljust(path.stat().st_size, b"\0"))
    os.utime(copy, ns=(LONG_AGO_NS, LONG_AGO_NS))
    copy.rename(path)


def delete(path: Path, _: Path) -> None:
    path.unlink()


def replace_by_folder(path: Path, _: Path) -> None:
    path.unlink()
    path.mkdir()


def replace_by_fifo(path: Path, _: Path) -> None:
    path.unlink()
    os.mkfifo(path)


CHANGES = [replace_in_place, replace_by_rename, delete, replace_by_folder, replace_by_fifo]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("cache", [True, False])
@pytest.mark.parametrize("split", ["train", "val"])
def test_a_changed_image_is_named(
    validated: Validated, change: Callable[[Path, Path], None], cache: bool, split: Split
) -> None:
    """Only the replaced or deleted image is named, with or without a scan cache."""
    first, second = validated.images(split)[:2]
    change(first, second)
    with pytest.raises(ImagesChangedError) as raised:
        validated.check(cache=cache)
    (problem,) = raised.value.problems
    assert problem.startswith(f"{validated.name(first)} ")


def test_only_images_in_a_different_state_are_read(validated: Validated) -> None:
    """Images whose size, time and inode match the scan are not read; all others are read once."""
    validated.check()
    assert validated.read == []
    touched, copied = validated.images()[:2]
    os.utime(touched, ns=(LONG_AGO_NS, LONG_AGO_NS + 1))
    shutil.copy2(copied, copied.with_name("copy"))
    copied.with_name("copy").rename(copied)
    validated.check()
    assert sorted(validated.read) == [validated.name(path) for path in (touched, copied)]
    validated.check()
    assert validated.read == []


def test_a_sample_is_read_although_nothing_seems_changed(validated: Validated, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change that keeps size, time and inode is found if the image is sampled, and the next scan reads it again."""
    path = validated.images()[0]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(LONG_AGO_NS, LONG_AGO_NS))
    validated.check()
    monkeypatch.setattr(unchanged, "SAMPLE", 100)
    with pytest.raises(ImagesChangedError) as raised:
        validated.check()
    (problem,) = raised.value.problems
    assert problem.startswith(f"{validated.name(path)} ")
    validated.scan()
    validated.check()


@pytest.mark.parametrize("change", [replace_in_place, replace_by_rename])
def test_validation_accepts_the_new_images(validated: Validated, change: Callable[[Path, Path], None]) -> None:
    """After an error, another scan reads the changed image again, and the check passes."""
    first, second = validated.images()[:2]
    change(first, second)
    with pytest.raises(ImagesChangedError):
        validated.check()
    validated.scan()
    validated.check()


@pytest.mark.parametrize("level", ["structure", "header"])
def test_without_digests_times_are_compared(validated: Validated, level: str) -> None:
    """If the scan did not compute digests, a new modification time counts as a change."""
    validated.scan(level, cache=False)
    validated.check()
    path = validated.images()[0]
    os.utime(path, ns=(LONG_AGO_NS, LONG_AGO_NS + 1))
    with pytest.raises(ImagesChangedError) as raised:
        validated.check()
    (problem,) = raised.value.problems
    assert problem.startswith(f"{validated.name(path)} ")


def test_a_moved_dataset_is_compared_by_content(validated: Validated, tmp_path: Path) -> None:
    """A copy of the dataset at another path is read once."""
    validated.root = shutil.copytree(validated.root, tmp_path / "elsewhere" / "digits")
    validated.check()
    assert len(validated.read) == 60
    validated.check()
    assert validated.read == []


def test_a_link_is_read(validated: Validated) -> None:
    """A symbolic link to an image in the dataset is compared by the content of its target."""
    first, second, third = validated.images()[:3]
    first.unlink()
    first.symlink_to(second)
    validated.scan()
    validated.check()
    first.unlink()
    first.symlink_to(third)
    with pytest.raises(ImagesChangedError):
        validated.check()


def test_lists_that_differ_from_the_manifest_are_rejected(validated: Validated) -> None:
    """If data_validation and data_preparation used different lists, an error is raised."""
    path = validated.root / "train_list.txt"
    path.write_text("".join(reversed(path.read_text().splitlines(keepends=True))))
    with pytest.raises(DatasetError):
        validated.check()


@pytest.mark.parametrize("mode", ["original", "raw-256"])
def test_shards_of_other_images_are_rejected(validated: Validated, mode: str) -> None:
    """If an image changes and is validated again after packing, its shard is named."""
    shards = validated.pack(mode)
    validated.check(shards=shards)
    first, second = validated.images()[:2]
    replace_in_place(first, second)
    validated.check(shards=shards)  # the files are not read
    validated.scan()
    with pytest.raises(ImagesChangedError) as raised:
        validated.check(shards=shards)
    (problem,) = raised.value.problems
    assert validated.name(first) in problem


def test_a_damaged_image_in_a_shard_is_named(validated: Validated) -> None:
    """A sample of the images in shards is compared with the digests in the index."""
    shards = validated.pack("original")
    image = validated.images()[0]
    shard = min((shards / "train").glob("*.tar"))
    data = bytearray(shard.read_bytes())
    data[data.index(image.read_bytes()) + 100] ^= 1
    shard.write_bytes(data)
    with pytest.raises(ImagesChangedError, match=shard.name):
        validated.check("train", shards=shards)


def test_training_is_resumed_only_with_the_same_images(validated: Validated, tmp_path: Path) -> None:
    """If an image is replaced and validated again, its identity no longer matches the training run."""
    save_identities(tmp_path / "images.npy", validated.check())
    require_same_images(tmp_path / "images.npy", validated.check())
    first, second = validated.images()[:2]
    replace_in_place(first, second)
    validated.scan()
    now = validated.check()
    with pytest.raises(CheckpointError, match=f"1 of 60 .*{first.name}"):
        require_same_images(tmp_path / "images.npy", now)


def test_identities_without_digests_are_compared_by_size(validated: Validated, tmp_path: Path) -> None:
    """A training run that started after a structure scan can be resumed after a full scan of the same images."""
    full = validated.check()
    validated.scan("structure", cache=False)
    save_identities(tmp_path / "images.npy", validated.check())
    require_same_images(tmp_path / "images.npy", full)
    values = full.values.copy()
    values["bytes"][3] += 1
    with pytest.raises(CheckpointError):
        require_same_images(tmp_path / "images.npy", ImageIdentities(full.paths, values))


def test_unknown_identities_are_ignored(validated: Validated, tmp_path: Path) -> None:
    """A file with a different length belongs to different lists, which the checkpoint set rejects."""
    np.save(tmp_path / "images.npy", np.zeros(3, IDENTITY_DTYPE))
    require_same_images(tmp_path / "images.npy", validated.check())


def test_an_older_manifest_is_an_error(validated: Validated, tmp_path: Path) -> None:
    """A manifest from an older version, without measures of the content, must be written again."""
    file = tmp_path / "manifest.parquet"
    pd.read_parquet(file).drop(columns=["difference_hash", "sharpness"]).to_parquet(file, index=False)
    with pytest.raises(DatasetError, match=r"older version.*no column difference_hash → run data_validation again"):
        validated.check()
    validated.scan()
    validated.check()


def test_images_that_changed_after_training_are_found(validated: Validated, tmp_path: Path) -> None:
    """Train images that were validated again with other content are named. Val images do not matter."""
    recorded = tmp_path / "images.npy"
    save_identities(recorded, validated.check())
    manifest = tmp_path / "manifest.parquet"
    train = lists_of(validated.root)["train"]
    assert find_untrained_images(recorded, train, manifest) == []
    replace_in_place(*validated.images("val")[:2])
    validated.scan()
    assert find_untrained_images(recorded, train, manifest) == []
    first, second = validated.images()[:2]
    replace_in_place(first, second)
    validated.scan()
    assert find_untrained_images(recorded, train, manifest) == [validated.name(first)]
    assert find_untrained_images(tmp_path / "missing.npy", train, manifest) == []
    path = validated.root / "train_list.txt"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    validated.scan()
    with pytest.raises(DatasetError):
        find_untrained_images(recorded, train, manifest)
