"""Each epoch uses every image, distributed evenly over the ranks, and does not depend on earlier epochs."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from placed import render_training_config
from resnet50_pipeline.exceptions import ImageDecodeError
from resnet50_pipeline.imagenet.lists.files import read_list_file
from resnet50_pipeline.recipe.data_loader import DataLoaderConfig, DatasetConfig, SplitConfig
from resnet50_pipeline.recipe.loaders import SamplerConfig
from resnet50_pipeline.trainer.data.batches import Batch
from resnet50_pipeline.trainer.data.dataset import ListDataset
from resnet50_pipeline.trainer.data.loader import Loader
from resnet50_pipeline.trainer.data.sampling import EvalBatches, TrainBatches, epoch_order
from resnet50_pipeline.trainer.ranks import Ranks
from resnet50_pipeline.trainer.share import Share


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
    """All ranks have the same number of batches, with the same sizes. Together, they load every image not dropped."""
    split = SplitConfig.model_construct(
        sampler=SamplerConfig(batch_size=batch, drop_last=drop_last, shuffle=True), dataset=None, loader=None
    )
    batches = [list(TrainBatches(images, split, Share(ranks, range(rank, rank + 1)), seed=3)) for rank in range(ranks)]
    assert len({tuple(map(len, mine)) for mine in batches}) == 1
    loaded = {index for mine in batches for step in mine for _, index, _ in step}
    assert loaded <= set(range(images))
    if not drop_last:
        assert loaded == set(range(images))


@given(images=st.integers(1, 200), ranks=st.integers(1, 7), batch=st.integers(1, 33))
def test_evaluation_has_every_image_exactly_once(images: int, ranks: int, batch: int):
    """No image is repeated or skipped, even if the number of images is not a multiple of the number of ranks."""
    indices = [
        index
        for rank in range(ranks)
        for step in EvalBatches(images, batch, Ranks(rank=rank, count=ranks, device="cpu"))
        for _, index, _ in step
    ]
    assert sorted(indices) == list(range(images))


def test_order_depends_only_on_seed_and_epoch(splits):
    """The same seed and epoch produce the same order; a different seed or epoch produces a different order."""

    def order(seed: int, epoch: int) -> list[int]:
        batches = TrainBatches(36, splits[0], ALONE, seed)
        batches.epoch = epoch
        return [index for step in batches for _, index, _ in step]

    assert order(1, 1) == order(1, 1)
    assert order(1, 1) != order(1, 2)
    assert order(1, 1) != order(2, 1)


def test_augmentation_does_not_depend_on_earlier_images(splits, striped_dataset: Path):
    """An image's random crop depends only on (seed, epoch, row)."""
    entries = read_list_file(striped_dataset / "train_list.txt", class_num=3)
    dataset = ListDataset(entries, splits[0], seed=7)
    first = dataset[1, 5][0]
    for other in range(4):
        dataset[1, other]
    np.testing.assert_array_equal(dataset[1, 5][0], first)
    assert not np.array_equal(dataset[2, 5][0], first)
    assert not np.array_equal(ListDataset(entries, splits[0], seed=8)[1, 5][0], first)


def test_workers_load_the_same_batches_as_the_rank(splits, striped_dataset: Path):
    """Batches are identical with and without worker processes."""
    entries = read_list_file(striped_dataset / "train_list.txt", class_num=3)
    dataset = ListDataset(entries, splits[0], seed=7)

    def load(workers: int) -> list[np.ndarray]:
        split = splits[0].model_copy(update={"loader": splits[0].loader.model_copy(update={"num_workers": workers})})
        batches = TrainBatches(len(entries), split, ALONE, seed=7)
        return [batch.images.numpy() for batch in Loader(dataset, batches, split)]

    for one, other in zip(load(0), load(2), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("workers", [0, 2])
def test_epoch_can_start_in_the_middle(splits, striped_dataset: Path, workers: int):
    """From `start_step` on, the batches are the same as in the full epoch. The next epoch is complete."""
    entries = read_list_file(striped_dataset / "train_list.txt", class_num=3)
    split = splits[0].model_copy(update={"loader": splits[0].loader.model_copy(update={"num_workers": workers})})
    batches = TrainBatches(len(entries), split, ALONE, seed=7)
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


def test_missing_image_is_an_error(splits, striped_dataset: Path, tmp_path: Path):
    """If an image file is missing, the error contains its path."""
    list_file = tmp_path / "val_list.txt"
    list_file.write_text("val/n00000000/gone.JPEG 0\n")
    dataset = ListDataset(read_list_file(list_file, class_num=3), splits[1], seed=7)
    with pytest.raises(ImageDecodeError, match=r"gone\.JPEG"):
        dataset[0, 0]


def with_loader(split: SplitConfig, **changes: object) -> SplitConfig:
    return split.model_copy(update={"loader": split.loader.model_copy(update=changes)})


def with_dataset(split: SplitConfig, **changes: object) -> SplitConfig:
    content = {**split.dataset.model_dump(mode="json"), **changes}
    return split.model_copy(update={"dataset": DatasetConfig.model_validate(content)})


def load_epoch(split: SplitConfig, epoch: int = 1, start_step: int = 0) -> list[Batch]:
    entries = read_list_file(Path(split.dataset.cls_label_path), class_num=3)
    batches = TrainBatches(len(entries), split, ALONE, seed=7)
    batches.epoch, batches.start_step = epoch, start_step
    return list(Loader(ListDataset(entries, split, seed=7), batches, split))


ALONE = Share(1, range(1))
MIX = {
    "OpSampler": {"MixupOperator": {"alpha": 0.5, "prob": 0.4}, "CutmixOperator": {"alpha": 1.0, "prob": 0.4}},
}


@given(images=st.integers(1, 2000), ranks=st.integers(1, 7), repeats=st.integers(2, 4))
def test_repeated_augmentation_matches_upstream(images: int, ranks: int, repeats: int):
    """A RASampler epoch is as long as upstream's. Copies of an image have different keys and go to successive ranks."""
    sampler = SamplerConfig(name="RASampler", batch_size=5, shuffle=True, num_repeats=repeats)
    split = SplitConfig.model_construct(sampler=sampler, dataset=None, loader=None)
    mine = [
        [key for step in TrainBatches(images, split, Share(ranks, range(rank, rank + 1)), seed=3) for key in step]
        for rank in range(ranks)
    ]
    assert {len(keys) for keys in mine} == {(images // 256 * 256 or images) // ranks}
    in_turn = [key for keys in zip(*mine, strict=True) for key in keys]
    order = epoch_order(images, 3, 0, shuffle=True)
    assert [(key.row, key.copy) for key in in_turn] == [
        (order[place // repeats], place % repeats) for place in range(len(in_turn))
    ]


def test_copies_of_an_image_are_augmented_differently(splits, striped_dataset: Path):
    """Two copies of an image in one epoch have different random numbers."""
    entries = read_list_file(striped_dataset / "train_list.txt", class_num=3)
    dataset = ListDataset(entries, splits[0], seed=7)
    assert not np.array_equal(dataset[1, 5, 0].pixels, dataset[1, 5, 1].pixels)
    np.testing.assert_array_equal(dataset[1, 5, 0].pixels, dataset[1, 5].pixels)


def test_mixing_depends_only_on_the_position_in_the_run(splits):
    """A batch is mixed with the same partners with or without workers, and in a full or a resumed epoch."""
    split = with_dataset(splits[0], batch_transform_ops=[MIX])
    whole = load_epoch(split)
    plain = load_epoch(splits[0])
    assert all(batch.mixed is not None for batch in whole)
    assert any((batch.mixed.share.numpy() < 1).all() for batch in whole if batch.mixed)
    for other in (load_epoch(with_loader(split, num_workers=2)), [*whole[:2], *load_epoch(split, start_step=2)]):
        for one, again in zip(whole, other, strict=True):
            np.testing.assert_array_equal(one.images.numpy(), again.images.numpy())
            np.testing.assert_array_equal(one.mixed.labels.numpy(), again.mixed.labels.numpy())
            np.testing.assert_array_equal(one.mixed.share.numpy(), again.mixed.share.numpy())
    for mixed, alone in zip(whole, plain, strict=True):
        np.testing.assert_array_equal(mixed.labels.numpy(), alone.labels.numpy())
        assert sorted(mixed.mixed.labels.tolist()) == sorted(alone.labels.tolist())
    other_epoch = load_epoch(split, epoch=2)
    assert [batch.mixed.share.tolist() for batch in other_epoch] != [batch.mixed.share.tolist() for batch in whole]


@pytest.mark.parametrize("workers", [0, 2])
def test_progressive_resizing_changes_the_crop_by_epoch(splits, workers: int):
    """Batches use the crop size of their epoch, with and without workers."""
    progress = {"initial_size": 16, "start_epoch": 1, "end_epoch": 3, "divisor": 8}
    split = with_loader(with_dataset(splits[0], progressive_resize=progress), num_workers=workers)
    assert [load_epoch(split, epoch)[0].images.shape for epoch in (1, 2, 3, 9)] == [
        [6, 3, side, side] for side in (16, 24, 32, 32)
    ]


@pytest.fixture
def damaged(splits, striped_dataset: Path, tmp_path: Path) -> SplitConfig:
    """The train split with two damaged images: row 3 is truncated, and row 4 is missing."""
    root = shutil.copytree(striped_dataset, tmp_path / "damaged")
    paths = [root / line.split()[0] for line in (root / "train_list.txt").read_text().splitlines()]
    paths[3].write_bytes(paths[3].read_bytes()[:-9])
    paths[4].unlink()
    return with_dataset(splits[0], image_root=str(root), cls_label_path=str(root / "train_list.txt"))


@pytest.mark.parametrize("workers", [0, 2])
def test_next_readable_image_replaces_an_unreadable_one(damaged: SplitConfig, splits, workers: int):
    """If skipping is allowed, batches keep their size and order, and each skipped image is reported once per epoch."""
    whole = load_epoch(splits[0])
    replaced = load_epoch(with_loader(damaged, num_workers=workers, max_skipped_images=2))
    expected = [[5 if row in (3, 4) else row for row in batch.index.tolist()] for batch in whole]
    assert [batch.index.tolist() for batch in replaced] == expected
    problems = [problem for batch in replaced for problem in batch.skipped]
    assert sorted(problem.rsplit("/")[-1][:15] for problem in problems) == ["n00000000_3.JPE", "n00000000_4.JPE"]
    resumed = load_epoch(with_loader(damaged, max_skipped_images=2), start_step=3)
    for one, again in zip(replaced[3:], resumed, strict=True):
        np.testing.assert_array_equal(one.images.numpy(), again.images.numpy())


@pytest.mark.parametrize("workers", [0, 2])
def test_unreadable_image_fails_by_default(damaged: SplitConfig, workers: int):
    """If skipping is not allowed, or the next readable row is too far away, the error names an unreadable image."""
    for allowed in (0, 1):
        with pytest.raises(ImageDecodeError, match=r"n00000000_[34]\.JPEG"):
            load_epoch(with_loader(damaged, num_workers=workers, max_skipped_images=allowed))


def test_last_batch_of_one_image_triggers_a_warning(splits):
    """There is no warning if the batch is dropped or full. A batch size of 1 gives a different warning."""

    def warnings(images: int, **changes: object) -> list[str]:
        return TrainBatches(images, with_sampler(splits[0], **changes), ALONE, seed=1).warnings()

    (warning,) = warnings(37, batch_size=6)
    assert "37" in warning
    assert "training.loader.drop_last" in warning
    assert not warnings(37, batch_size=6, drop_last=True)
    assert not warnings(36, batch_size=6)
    (warning,) = warnings(37, batch_size=1)
    assert "training.batch_size_per_rank" in warning


@pytest.mark.parametrize(
    "changes",
    [
        {"dataset": {"batch_transform_ops": [MIX]}},
        {"loader": {"max_skipped_images": 1}},
        {"loader": {"normalize_on_device": True}},
        {"sampler": {"drop_last": True}},
        {"sampler": {"name": "RASampler", "num_repeats": 3}},
    ],
)
def test_evaluation_rejects_keys_that_change_its_images(splits, changes: dict):
    """Keys that would skip, repeat, replace or mix images are rejected. Without them, the section is valid."""
    train, evaluation = (split.model_dump(mode="json") for split in splits)
    DataLoaderConfig.model_validate({"Train": train, "Eval": evaluation})
    ((section, values),) = changes.items()
    evaluation[section] |= values
    with pytest.raises(ValidationError, match="Eval"):
        DataLoaderConfig.model_validate({"Train": train, "Eval": evaluation})
