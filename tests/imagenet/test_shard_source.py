"""Reading from shards: what is not as it was packed is named, and a million rows are opened in a moment."""

from __future__ import annotations

import json
import os
import pickle
import resource
import shutil
import tarfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from packed_dataset import loose_images, pack, read_lists
from resnet50_pipeline.commands.verify_shards import verify_shards
from resnet50_pipeline.exceptions import DamagedShardsError, DatasetError, ImageDecodeError
from resnet50_pipeline.files import digest_file
from resnet50_pipeline.imagenet.list_files import parse_list
from resnet50_pipeline.imagenet.shard_build import SplitToPack, build_shard_set, describe_packing, write_no_shard_set
from resnet50_pipeline.imagenet.shard_source import ShardedImages, open_images
from resnet50_pipeline.imagenet.shard_tar import write_shard
from resnet50_pipeline.imagenet.shard_verify import verify_shard_set
from resnet50_pipeline.parameters import ShardParameters
from striped_dataset import CLASSES


@pytest.fixture
def packed(striped_dataset: Path, tmp_path: Path) -> Path:
    """A shard set of the stripes' own bytes."""
    pack(striped_dataset, tmp_path / "shards", "original", CLASSES)
    return tmp_path / "shards"


@pytest.fixture
def open_train(striped_dataset: Path, packed: Path) -> Callable[[], ShardedImages]:
    """A function that opens the train list's images."""
    entries = read_lists(striped_dataset, CLASSES)["train"]

    def open_them() -> ShardedImages:
        source = open_images(entries, striped_dataset, packed)
        assert isinstance(source, ShardedImages)
        return source

    return open_them


def test_a_shard_of_another_size_is_refused_when_it_is_opened(open_train, packed: Path):
    """Cut off, added to or gone: the file, the rule, both sizes and the next step, before the first step."""
    shard = packed / "train" / "0001-n00000001-000.tar"
    data = shard.read_bytes()
    for changed, what in ((data[:-512], "was cut off"), (data + b"x", "was added to")):
        shard.write_bytes(changed)
        with pytest.raises(DatasetError) as raised:
            open_train()
        assert str(raised.value) == (
            f"{shard}: {what}: it has {len(changed)} bytes, and the shard set expects {len(data)} → run "
            "data_preparation again, which keeps the shards that are whole"
        )
    shard.unlink()
    with pytest.raises(DatasetError, match=f"{shard}: cannot be read: No such file"):
        open_train()


def test_an_index_of_another_set_is_refused(open_train, packed: Path, striped_dataset: Path, tmp_path: Path):
    """Its rows would point anywhere; its digest is not the one in the set's description."""
    pack(striped_dataset, tmp_path / "other", "original", CLASSES, images_per_shard=4)
    shutil.copy(tmp_path / "other" / "train.npy", packed / "train.npy")
    with pytest.raises(
        DatasetError, match=r"train\.npy: is not the index of this shard set, or damaged: .* → run data"
    ):
        open_train()
    (packed / "train.npy").unlink()
    with pytest.raises(DatasetError, match=r"train\.npy: cannot be read"):
        open_train()


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("offset", 2**64 - 1, r"row 4 is no image of this set: \d+ bytes from 18446744073709551615 on of shard"),
        ("offset", 10**9, r"row 4 .* which has \d+ bytes"),
        ("size", 2**32 - 1, r"row 4 is no image of this set: 4294967295 bytes from"),
        ("shard", 999, r"row 4 .* of shard 999, and there are \d+ →"),
    ],
)
def test_an_index_that_points_outside_is_refused(open_train, packed: Path, field: str, value: int, message: str):
    """With a digest that agrees, as somebody would make it who means ill: no row leads out of its shard."""
    index = np.load(packed / "train.npy")
    index[field][4] = value
    np.save(packed / "train.npy", index)
    description = json.loads((packed / "shard_set.json").read_text())
    description["splits"]["train"]["index_digest"] = digest_file(packed / "train.npy")
    (packed / "shard_set.json").write_text(json.dumps(description))
    with pytest.raises(DatasetError, match=message):
        open_train()


def test_a_list_that_was_changed_since_is_refused(striped_dataset: Path, packed: Path):
    """Rows follow the list, so another order would be other labels."""
    text = (striped_dataset / "train_list.txt").read_text().splitlines(keepends=True)
    entries = parse_list("".join(reversed(text)).encode(), CLASSES, source="train_list.txt")
    with pytest.raises(DatasetError) as raised:
        open_images(entries, striped_dataset, packed)
    assert "has not been packed from train_list.txt as it is now (36 images, sha256:" in str(raised.value)
    assert "but from train with 36 images, val with 21 images → run data_preparation again" in str(raised.value)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda text: text[:-20], "is no description of a shard set that this version reads: the file: Invalid JSON"),
        (lambda text: text.replace("version 1", "version 2"), "format: Input should be 'resnet50-pipeline shard set"),
        (lambda text: text.replace('"images"', '"pictures"', 1), "splits.train.images: Field required"),
    ],
)
def test_a_description_that_is_not_ours_is_refused(open_train, packed: Path, edit, message: str):
    """Torn, of another version, or with another key: which, and what to do."""
    path = packed / "shard_set.json"
    path.write_text(edit(path.read_text()))
    with pytest.raises(DatasetError) as raised:
        open_train()
    assert str(raised.value).startswith(f"{path}: ")
    assert message in str(raised.value)
    assert "run data_preparation again" in str(raised.value)


def test_a_shard_that_is_cut_off_later_is_named_with_the_image(open_train, packed: Path):
    """The read is short: an error that names shard and image, never a part of an image."""
    source = open_train()
    shard = packed / "train" / "0000-n00000000-000.tar"
    os.truncate(shard, 2000)
    with pytest.raises(ImageDecodeError) as raised:
        source.read(4)
    assert str(raised.value).startswith(
        f"{shard}: train/n00000000/n00000000_4.JPEG: has 0 bytes, and the index expects"
    )
    assert "was cut off since it was opened → run data_preparation again" in str(raised.value)
    shard.unlink()
    with pytest.raises(ImageDecodeError, match="cannot be read: No such file"):
        open_train_without_looking(source).read(4)


def open_train_without_looking(source: ShardedImages) -> ShardedImages:
    """Return the same images with no file open yet."""
    source._descriptors.clear()
    return source


def test_threads_forks_and_copies_read_the_same(open_train, striped_dataset: Path):
    """A descriptor has no position that two readers could dispute, and a pickled copy opens its own."""
    source = open_train()
    paths = read_lists(striped_dataset, CLASSES)["train"].paths
    expected = [(striped_dataset / path).read_bytes() for path in paths]
    rows = list(range(len(paths))) * 20
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(source.read, rows)) == [expected[row] for row in rows]
    assert [pickle.loads(pickle.dumps(source)).read(row) for row in range(3)] == expected[:3]  # noqa: S301
    child = os.fork()
    if child == 0:
        os._exit(int([source.read(row) for row in rows] != [expected[row] for row in rows]))
    assert [source.read(row) for row in rows] == [expected[row] for row in rows]
    assert os.waitpid(child, 0)[1] == 0


def test_few_descriptors_are_enough(open_train, striped_dataset: Path, monkeypatch):
    """Where the system allows fewer open files than there are shards, the others are opened for each image."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (258, limits[1]))
        monkeypatch.setattr(resource, "setrlimit", lambda *_: None)
        monkeypatch.setattr(resource, "getrlimit", lambda _: (258, 258))
        source = open_train()
    finally:
        monkeypatch.undo()
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    paths = read_lists(striped_dataset, CLASSES)["train"].paths
    assert [source.read(row) for row in range(36)] == [(striped_dataset / path).read_bytes() for path in paths]
    assert len(source._descriptors) == 2


def test_descriptors_are_closed_with_the_source(open_train):
    """What was opened does not outlive it."""
    source = open_train()
    source.read(0)
    (descriptor,) = source._descriptors.values()
    del source
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_any_lists_come_back_row_by_row(tmp_path_factory, data):
    """Whatever the labels, the order and the sizes: a row of the list is its image's bytes and its label."""
    root = tmp_path_factory.mktemp("any")
    count = data.draw(st.integers(1, 25))
    labels = data.draw(st.lists(st.integers(0, 4), min_size=count, max_size=count))
    images = data.draw(st.lists(st.binary(max_size=700), min_size=count, max_size=count))
    (root / "train").mkdir()
    lines = []
    for number, (label, image) in enumerate(zip(labels, images, strict=True)):
        (root / "train" / f"{number}.JPEG").write_bytes(image)
        lines.append(f"train/{number}.JPEG {label}\n")
    entries = parse_list("".join(lines).encode(), 5)
    build_shard_set(
        root / "shards",
        {"train": SplitToPack(entries, loose_images(root, entries))},
        describe_packing("original", ShardParameters(output_dir=root)),
        images_per_shard=data.draw(st.integers(1, 9)),
        workers=1,
    )
    source = open_images(entries, root, root / "shards")
    assert [source.read(row) for row in range(count)] == images
    assert np.load(root / "shards" / "train.npy")["label"].tolist() == labels


def test_a_whole_set_is_verified_and_every_damaged_shard_is_named(packed: Path):
    """A flipped bit in a member, a shard that is gone and one of other images: one message each, all in one pass."""
    found = verify_shard_set(packed)
    sizes = [path.stat().st_size for path in packed.glob("*/*.tar")]
    assert (found.shards, found.images, found.bytes) == (15, 57, sum(sizes))
    flipped, gone, other, whole = sorted((packed / "train").iterdir())[:4]
    data = bytearray(flipped.read_bytes())
    data[2000] ^= 1
    flipped.write_bytes(data)
    gone.unlink()
    shutil.copy(whole, other)
    with pytest.raises(DamagedShardsError) as raised:
        verify_shard_set(packed)
    expected = (
        f"{flipped}: its members have not the checksums",
        f"{gone}: is not there",
        f"{other}: was made of other images, or otherwise",
    )
    assert [message.startswith(start) for message, start in zip(raised.value.problems, expected, strict=True)] == [
        True
    ] * 3


def test_a_shard_that_agrees_with_itself_but_not_with_the_index_is_named(packed: Path):
    """Made anew by hand, of the same names and with the same comment: the index has another digest."""
    shard = packed / "val" / "0000-n00000000-000.tar"
    with tarfile.open(shard) as archive:
        source = archive.pax_headers["comment"]
        members = [(member.name, archive.extractfile(member).read()) for member in archive.getmembers()[:-1]]
    write_shard(shard, source, [(members[0][0], members[1][1]), *members[1:]])
    with pytest.raises(DamagedShardsError, match="is whole, but has other members than the index says"):
        verify_shard_set(packed)


def test_the_command_tells_by_its_exit_code(packed: Path):
    """0 and a line; 1 and the shard; 1 and what to do where there are none."""
    runner = CliRunner()
    done = runner.invoke(verify_shards, [str(packed)])
    assert (done.exit_code, done.output) == (0, f"{packed}: 57 images in 15 shards (0.0 GB) are as packed\n")
    os.truncate(packed / "val" / "0000-n00000000-000.tar", 1000)
    assert runner.invoke(verify_shards, [str(packed), "--workers", "1"]).exit_code == 1
    write_no_shard_set(packed)
    done = runner.invoke(verify_shards, [str(packed)])
    assert done.exit_code == 1
