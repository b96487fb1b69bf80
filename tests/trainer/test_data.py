"""Who sees which image when: every image, evenly, and the same whatever was loaded before."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resnet50_pipeline.exceptions import ImageDecodeError
from resnet50_pipeline.imagenet.list_files import read_list_file
from resnet50_pipeline.paddleclas.config import render_training_config
from resnet50_pipeline.trainer.data import EvalBatches, ListDataset, Loader, TrainBatches
from resnet50_pipeline.trainer.ranks import Ranks
from resnet50_pipeline.training_config import SamplerConfig, SplitConfig


@pytest.fixture
def splits(striped_dataset: Path, dataset_parameters, training_parameters) -> tuple[SplitConfig, SplitConfig]:
    config = render_training_config(
        training_parameters(),
        dataset_parameters,
        striped_dataset / "train_list.txt",
        striped_dataset / "val_list.txt",
    )
    return config.DataLoader.Train, config.DataLoader.Eval


def with_sampler(split: SplitConfig, **changes: object) -> SplitConfig:
    return split.model_copy(update={"sampler": SamplerConfig.model_validate({"shuffle": True, **changes})})


@given(images=st.integers(1, 200), ranks=st.integers(1, 7), batch=st.integers(1, 33), drop_last=st.booleans())
def test_ranks_share_an_epoch(images: int, ranks: int, batch: int, drop_last: bool):
    """Ranks take the same number of steps of the same sizes, and together see every image (unless dropped)."""
    split = SplitConfig.model_construct(
        sampler=SamplerConfig(batch_size=batch, drop_last=drop_last, shuffle=True), dataset=None, loader=None
    )
    batches = [
        list(TrainBatches(images, split, Ranks(rank=rank, count=ranks, device="cpu"), seed=3)) for rank in range(ranks)
    ]
    assert len({tuple(map(len, mine)) for mine in batches}) == 1
    seen = {index for mine in batches for step in mine for _, index in step}
    assert seen <= set(range(images))
    if not drop_last:
        assert seen == set(range(images))


@given(images=st.integers(1, 200), ranks=st.integers(1, 7), batch=st.integers(1, 33))
def test_evaluation_has_every_image_exactly_once(images: int, ranks: int, batch: int):
    """No image is padded in or left out, also where the number of ranks divides nothing."""
    indices = [
        index
        for rank in range(ranks)
        for step in EvalBatches(images, batch, Ranks(rank=rank, count=ranks, device="cpu"))
        for _, index in step
    ]
    assert sorted(indices) == list(range(images))


def test_order_depends_on_seed_and_epoch_alone(splits):
    """Two epochs and two seeds differ; the same seed and epoch do not."""
    alone = Ranks(rank=0, count=1, device="cpu")

    def order(seed: int, epoch: int) -> list[int]:
        batches = TrainBatches(36, splits[0], alone, seed)
        batches.epoch = epoch
        return [index for step in batches for _, index in step]

    assert order(1, 1) == order(1, 1)
    assert order(1, 1) != order(1, 2)
    assert order(1, 1) != order(2, 1)


def test_augmentation_of_an_image_is_its_own(splits, striped_dataset: Path):
    """An image's random crop depends on (seed, epoch, index), not on what was loaded before it."""
    entries = read_list_file(striped_dataset / "train_list.txt", class_num=3)
    dataset = ListDataset(entries, splits[0], seed=7)
    first = dataset[1, 5][0]
    for other in range(4):
        dataset[1, other]
    np.testing.assert_array_equal(dataset[1, 5][0], first)
    assert not np.array_equal(dataset[2, 5][0], first)
    assert not np.array_equal(ListDataset(entries, splits[0], seed=8)[1, 5][0], first)


def test_workers_give_what_the_rank_itself_would(splits, striped_dataset: Path):
    """Loader processes change nothing about the batches."""
    entries = read_list_file(striped_dataset / "train_list.txt", class_num=3)
    dataset = ListDataset(entries, splits[0], seed=7)

    def load(workers: int) -> list[np.ndarray]:
        split = splits[0].model_copy(update={"loader": splits[0].loader.model_copy(update={"num_workers": workers})})
        batches = TrainBatches(len(entries), split, Ranks(rank=0, count=1, device="cpu"), seed=7)
        return [batch.images.numpy() for batch in Loader(dataset, batches, split)]

    for one, other in zip(load(0), load(2), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_can_begin_in_its_middle(splits, striped_dataset: Path, workers: int):
    """The batches from `start_step` on are those of the whole epoch, and the next epoch is whole again."""
    entries = read_list_file(striped_dataset / "train_list.txt", class_num=3)
    split = splits[0].model_copy(update={"loader": splits[0].loader.model_copy(update={"num_workers": workers})})
    batches = TrainBatches(len(entries), split, Ranks(rank=0, count=1, device="cpu"), seed=7)
    loader = Loader(ListDataset(entries, split, seed=7), batches, split)

    def load(epoch: int, start_step: int) -> list[tuple[list[int], np.ndarray]]:
        batches.epoch, batches.start_step = epoch, start_step
        assert len(batches) == batches.steps_per_epoch - start_step
        return [(batch.index.tolist(), batch.images.numpy()) for batch in loader]

    rest, following, whole = load(3, 2), load(4, 0), load(3, 0)
    assert len(following) == len(whole) == batches.steps_per_epoch
    assert len(rest) == len(whole) - 2
    for (index, images), (expected_index, expected_images) in zip(rest, whole[2:], strict=True):
        assert index == expected_index
        np.testing.assert_array_equal(images, expected_images)


def test_image_that_vanished_is_an_error(splits, striped_dataset: Path, tmp_path: Path):
    """A missing image is named; it is never replaced by another one."""
    list_file = tmp_path / "val_list.txt"
    list_file.write_text("val/n00000000/gone.JPEG 0\n")
    dataset = ListDataset(read_list_file(list_file, class_num=3), splits[1], seed=7)
    with pytest.raises(ImageDecodeError, match=r"gone\.JPEG"):
        dataset[0, 0]
