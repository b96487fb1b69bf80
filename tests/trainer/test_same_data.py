"""On several machines, each rank compares its share of the images with the record from machine 0."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from packed_dataset import pack
from placed import PlacedDataset, render_training_config
from resnet50_pipeline.exceptions import DatasetError
from resnet50_pipeline.imagenet.identities import IDENTITY_DTYPE, ImageIdentities, digest_prefix, save_identities
from resnet50_pipeline.recipe.document import TrainingConfig
from resnet50_pipeline.trainer import same_data
from resnet50_pipeline.trainer.heartbeat import Heartbeat
from resnet50_pipeline.trainer.ranks import Ranks
from resnet50_pipeline.trainer.run_data import RunData
from resnet50_pipeline.training_dir import images_path
from striped_dataset import CLASSES

Check = Callable[[], None]


class SharedFiles(Ranks):
    """Ranks whose shared files are the same."""

    def gather(self, values: Sequence[float]) -> NDArray[np.float64]:
        """Return this rank's values as the values of all ranks."""
        return np.array([values] * self.count)


@pytest.fixture
def dataset(striped_dataset: Path, tmp_path: Path) -> Path:
    """A copy of the dataset."""
    return shutil.copytree(striped_dataset, tmp_path / "dataset")


@pytest.fixture
def check_as(dataset, training_parameters, monkeypatch) -> Callable[..., Check]:
    """Return a function that builds the check of one rank in a run on two machines with two ranks each."""

    def build(local_rank: int, shards: Path | None = None) -> Check:
        training = training_parameters()
        config = render_training_config(training, PlacedDataset(root=dataset, class_num=CLASSES), shards=shards)
        lists = RunData(config, Ranks(rank=0, count=1, device="cpu")).lists
        if shards is None and not images_path(training.output_dir).exists():
            training.output_dir.mkdir()
            save_identities(images_path(training.output_dir), identities_of(config, lists))

        def check() -> None:
            monkeypatch.setenv("PADDLE_LOCAL_SIZE", "2")
            monkeypatch.setenv("PADDLE_LOCAL_RANK", str(local_rank))
            ranks = SharedFiles(rank=2 + local_rank, count=4, device="cpu")
            same_data.require_same_data(config, ranks, lists, Heartbeat(training.output_dir, ranks.rank))

        return check

    return build


def identities_of(config: TrainingConfig, lists) -> ImageIdentities:
    root = Path(config.DataLoader.Train.dataset.image_root)
    paths = [path for entries in lists.values() for path in entries.paths]
    contents = [(root / path).read_bytes() for path in paths]
    values = [(len(data), digest_prefix(hashlib.sha256(data).hexdigest())) for data in contents]
    return ImageIdentities(paths, np.array(values, IDENTITY_DTYPE))


def test_the_ranks_of_a_machine_share_its_images(dataset: Path, check_as: Callable[..., Check]):
    """Exactly one rank on the machine compares each image."""
    checks = [check_as(0), check_as(1)]
    for check in checks:
        check()
    images = [path for split in ("train", "val") for path in sorted((dataset / split).rglob("*.JPEG"))]
    assert len(images) == 57
    for image in images:
        data = image.read_bytes()
        image.write_bytes(data + b"\0")
        errors = []
        for check in checks:
            try:
                check()
            except DatasetError as error:
                errors.append(str(error))
        (error,) = errors
        assert error.startswith(f"{image} has {len(data) + 1:,} bytes, not {len(data):,};")
        assert "1 of 2" in error
        image.write_bytes(data)


def test_a_sample_of_the_content_is_compared(dataset: Path, check_as: Callable[..., Check], monkeypatch):
    """An image with the same size but different content is detected if it is in the sample."""
    image = dataset / "train" / "n00000000" / "n00000000_0.JPEG"
    checks = [check_as(0), check_as(1)]
    image.write_bytes(image.read_bytes()[:-1] + b"\0")
    with pytest.raises(DatasetError, match=f"{image} has different content; .*1 of 29"):
        checks[0]()
    checks[1]()
    monkeypatch.setattr(same_data, "SAMPLE", 0)
    checks[0]()


def test_without_digests_only_sizes_are_compared(dataset: Path, check_as: Callable[..., Check], training_parameters):
    """After a scan with `level: structure`, no digests are known, so only sizes are compared."""
    check = check_as(0)
    path = images_path(training_parameters().output_dir)
    values = np.load(path)
    values["digest"] = 0
    np.save(path, values)
    image = dataset / "train" / "n00000000" / "n00000000_0.JPEG"
    image.write_bytes(image.read_bytes()[:-1] + b"\0")
    check()
    image.unlink()
    with pytest.raises(DatasetError, match=f"{image} is missing"):
        check()


def test_shards_are_compared_with_their_index(dataset: Path, check_as: Callable[..., Check], tmp_path: Path):
    """With shards, a sample of the packed images is compared, and the loose files are not read."""
    pack(dataset, tmp_path / "shards", "original", CLASSES)
    check = check_as(0, shards=tmp_path / "shards")
    shutil.rmtree(dataset / "train")
    check()
    for shard in (tmp_path / "shards" / "val").glob("*.tar"):
        shard.write_bytes(bytes(byte ^ 1 for byte in shard.read_bytes()))
    with pytest.raises(DatasetError, match=r"val/.*\.tar: "):
        check()


def test_nothing_is_compared_on_one_machine(dataset: Path, training_parameters, monkeypatch):
    """On a single machine, ranks compare nothing, because Kedro compares the images before it starts them."""
    monkeypatch.setenv("PADDLE_LOCAL_SIZE", "2")
    training = training_parameters()
    config = render_training_config(training, PlacedDataset(root=dataset, class_num=CLASSES))
    shutil.rmtree(dataset)
    same_data.require_same_data(config, Ranks(rank=1, count=2, device="cpu"), {}, Heartbeat(training.output_dir, 1))
