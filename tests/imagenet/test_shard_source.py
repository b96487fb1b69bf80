"""Any damage is reported when shards are read."""

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
from resnet50_pipeline.imagenet.lists.files import parse_list
from resnet50_pipeline.imagenet.shards.build import SplitToPack, build_shard_set, resolve_packing, write_no_shard_set
from resnet50_pipeline.imagenet.shards.source import ShardedImages, open_images
from resnet50_pipeline.imagenet.shards.tar import write_shard
from resnet50_pipeline.imagenet.shards.verify import verify_shard_set
from resnet50_pipeline.parameters import ShardParameters
from resnet50_pipeline.text import format_bytes
from striped_dataset import CLASSES


@pytest.fixture
def packed(striped_dataset: Path, tmp_path: Path) -> Path:
    """A shard set with the unchanged bytes of the striped dataset."""
    pack(striped_dataset, tmp_path / "shards", "original", CLASSES)
    return tmp_path / "shards"


@pytest.fixture
def open_train(striped_dataset: Path, packed: Path) -> Callable[[], ShardedImages]:
    """A function that opens the images of the train list."""
    entries = read_lists(striped_dataset, CLASSES)["train"]

    def open_source() -> ShardedImages:
        source = open_images(entries, striped_dataset, packed)
        assert isinstance(source, ShardedImages)
        return source

    return open_source


def test_shard_of_another_size_is_refused(open_train, packed: Path):
    """Truncated, extended and missing shards are rejected when opened, and the error contains both sizes."""
    shard = packed / "train" / "0001-n00000001-000.tar"
    data = shard.read_bytes()
    for changed in (data[:-512], data + b"x"):
        shard.write_bytes(changed)
        with pytest.raises(DatasetError) as raised:
            open_train()
        message = str(raised.value)
        assert message.startswith(f"{shard} ")
        assert f"{len(changed)} bytes" in message
        assert str(len(data)) in message
        assert "→ run data_preparation" in message
    shard.unlink()
    with pytest.raises(DatasetError, match=f"{shard} .*No such file"):
        open_train()


def test_an_index_of_another_set_is_refused(open_train, packed: Path, striped_dataset: Path, tmp_path: Path):
    """An index whose digest differs from the one in the description is rejected."""
    pack(striped_dataset, tmp_path / "other", "original", CLASSES, images_per_shard=4)
    shutil.copy(tmp_path / "other" / "train.npy", packed / "train.npy")
    with pytest.raises(DatasetError, match=r"train\.npy .* → run data"):
        open_train()
    (packed / "train.npy").unlink()
    with pytest.raises(DatasetError, match=r"train\.npy"):
        open_train()


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("offset", 2**64 - 1, r"row 4 .*\d+ bytes .*18446744073709551615"),
        ("offset", 10**9, r"row 4 .* 1000000000 .*\d+ bytes"),
        ("size", 2**32 - 1, r"row 4 .*4294967295 bytes"),
        ("shard", 999, r"row 4 .*shard 999\b"),
    ],
)
def test_index_row_outside_its_shard_is_refused(open_train, packed: Path, field: str, value: int, message: str):
    """A row that points outside its shard is rejected, even if the digest of the index was updated to match."""
    index = np.load(packed / "train.npy")
    index[field][4] = value
    np.save(packed / "train.npy", index)
    description = json.loads((packed / "shard_set.json").read_text())
    description["splits"]["train"]["index_digest"] = digest_file(packed / "train.npy")
    (packed / "shard_set.json").write_text(json.dumps(description))
    with pytest.raises(DatasetError, match=message):
        open_train()


def test_changed_list_is_refused(striped_dataset: Path, packed: Path):
    """A list in a different order from the packed one is rejected."""
    text = (striped_dataset / "train_list.txt").read_text().splitlines(keepends=True)
    entries = parse_list("".join(reversed(text)).encode(), CLASSES, source="train_list.txt")
    with pytest.raises(DatasetError) as raised:
        open_images(entries, striped_dataset, packed)
    assert "train_list.txt (36 images, sha256:" in str(raised.value)
    assert "train with 36 images, val with 21 images" in str(raised.value)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda text: text[:-20], "Invalid JSON"),
        (lambda text: text.replace("version 1", "version 2"), "format: Input should be 'resnet50-pipeline shard set"),
        (lambda text: text.replace('"images"', '"pictures"', 1), "splits.train.images: Field required"),
    ],
)
def test_invalid_description_is_refused(open_train, packed: Path, edit, message: str):
    """A description that is truncated, has another version or contains an unknown key is rejected with the reason."""
    path = packed / "shard_set.json"
    path.write_text(edit(path.read_text()))
    with pytest.raises(DatasetError) as raised:
        open_train()
    assert str(raised.value).startswith(f"{path} ")
    assert message in str(raised.value)
    assert "data_preparation" in str(raised.value)


def test_shard_truncated_after_opening_is_reported(open_train, packed: Path):
    """A shard truncated after opening raises an error, and no partial image is returned."""
    source = open_train()
    shard = packed / "train" / "0000-n00000000-000.tar"
    os.truncate(shard, 2000)
    with pytest.raises(ImageDecodeError) as raised:
        source.read(4)
    assert str(raised.value).startswith(f"{shard}: train/n00000000/n00000000_4.JPEG has 0 bytes")
    assert "data_preparation" in str(raised.value)
    shard.unlink()
    with pytest.raises(ImageDecodeError, match="No such file"):
        close_shards(source).read(4)


def close_shards(source: ShardedImages) -> ShardedImages:
    """Return the same images without open files."""
    source._descriptors.clear()
    return source


def test_threads_forks_and_copies_read_the_same(open_train, striped_dataset: Path):
    """Threads, forked processes and unpickled copies read the same bytes."""
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
    """If the limit on open files is lower than the number of shards, the others are reopened for each image."""
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
    """Descriptors are closed when the source is deleted."""
    source = open_train()
    source.read(0)
    (descriptor,) = source._descriptors.values()
    del source
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_any_lists_come_back_row_by_row(tmp_path_factory, data):
    """For any labels, order and sizes, each row gives its image's bytes and label."""
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
        resolve_packing("original", ShardParameters()),
        images_per_shard=data.draw(st.integers(1, 9)),
        workers=1,
    )
    source = open_images(entries, root, root / "shards")
    assert [source.read(row) for row in range(count)] == images
    assert np.load(root / "shards" / "train.npy")["label"].tolist() == labels


def test_verification_reports_every_damaged_shard(packed: Path):
    """An intact set passes; flipped bits, missing shards and swapped shards are all reported in one pass."""
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
    assert [message.split(maxsplit=1)[0].rstrip(":") for message in raised.value.problems] == [
        str(flipped),
        str(gone),
        str(other),
    ]


def test_intact_shard_that_differs_from_the_index_is_reported(packed: Path):
    """A shard that is intact but differs from the index is reported."""
    shard = packed / "val" / "0000-n00000000-000.tar"
    with tarfile.open(shard) as archive:
        source = archive.pax_headers["comment"]
        members = [(member.name, archive.extractfile(member).read()) for member in archive.getmembers()[:-1]]
    write_shard(shard, source, [(members[0][0], members[1][1]), *members[1:]])
    with pytest.raises(DamagedShardsError, match=str(shard)):
        verify_shard_set(packed)


def test_verify_command_exit_code(packed: Path):
    """`verify-shards` exits with 0 for an intact set, and with 1 for a damaged or missing one."""
    runner = CliRunner()
    done = runner.invoke(verify_shards, [str(packed)])
    size = format_bytes(sum(shard.stat().st_size for shard in packed.rglob("*.tar")))
    assert done.exit_code == 0
    assert all(fact in done.output for fact in (str(packed), "57 images", "15 shards", size))
    os.truncate(packed / "val" / "0000-n00000000-000.tar", 1000)
    assert runner.invoke(verify_shards, [str(packed), "--workers", "1"]).exit_code == 1
    write_no_shard_set(packed)
    done = runner.invoke(verify_shards, [str(packed)])
    assert done.exit_code == 1
