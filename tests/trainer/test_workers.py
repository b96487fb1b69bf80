"""Loader processes: what they share is used again, and goes with them, however a run ends."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from resnet50_pipeline.exceptions import LoaderProcessError
from resnet50_pipeline.imagenet.list_files import read_list_file
from resnet50_pipeline.paddleclas.config import render_training_config
from resnet50_pipeline.trainer.buffers import Buffers
from resnet50_pipeline.trainer.data import Batch, ListDataset, Loader
from resnet50_pipeline.trainer.ranks import Ranks
from resnet50_pipeline.trainer.sampling import TrainBatches
from resnet50_pipeline.training_config import SplitConfig

ALONE = Ranks(rank=0, count=1, device="cpu")


@pytest.fixture
def split(striped_dataset: Path, dataset_parameters, training_parameters) -> SplitConfig:
    lists = (striped_dataset / f"{name}_list.txt" for name in ("train", "val"))
    return render_training_config(training_parameters(), dataset_parameters, *lists).DataLoader.Train


def with_values(split: SplitConfig, section: str, **changes: object) -> SplitConfig:
    document = split.model_dump(mode="json")
    document[section] |= changes
    return SplitConfig.model_validate(document)


def make_loader(split: SplitConfig) -> tuple[Loader, TrainBatches]:
    entries = read_list_file(Path(split.dataset.cls_label_path), class_num=3)
    batches = TrainBatches(len(entries), split, ALONE, seed=7)
    batches.epoch = 1
    return Loader(ListDataset(entries, split, seed=7), batches, split), batches


def load(split: SplitConfig) -> list[Batch]:
    return list(make_loader(split)[0])


def test_a_part_is_free_when_nothing_looks_at_it():
    """A buffer is not written to while an array shares it, and is when none does."""
    buffers = Buffers(2, 64)
    first, second = buffers.take((4,), np.float32), buffers.take((4,), np.float32)
    part = first[1:]
    third = buffers.take((4,), np.float32)
    assert not any(np.shares_memory(third, other) for other in (first, second))
    address = first.ctypes.data
    del first
    assert not buffers.free
    del part
    gc.collect()
    assert buffers.take((4,), np.float32).ctypes.data == address
    assert not np.shares_memory(buffers.take((40,), np.float32), second)


@pytest.mark.parametrize("workers", [1, 2])
def test_kept_batches_keep_their_values(split: SplitConfig, workers: int):
    """Who keeps every batch of an epoch finds in each what the rank alone would have loaded."""
    expected = [batch.images.numpy() for batch in load(split)]
    kept = load(with_values(split, "loader", num_workers=workers))
    for batch, images in zip(kept, expected, strict=True):
        np.testing.assert_array_equal(batch.images.numpy(), images)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("mix", [None, {"MixupOperator": {"alpha": 0.2}}, {"CutmixOperator": {"alpha": 1.0}}])
def test_batches_of_bytes_are_those_of_float32(split: SplitConfig, workers: int, mix: dict | None):
    """Sent as uint8, normalised and mixed on the device, a batch is the same within a rounding."""
    split = with_values(split, "dataset", batch_transform_ops=[mix] if mix else [])
    sent = with_values(split, "loader", normalize_on_device=True, num_workers=workers)
    assert make_loader(sent)[0]._dataset.image_dtype == np.uint8
    for one, other in zip(load(split), load(sent), strict=True):
        np.testing.assert_allclose(other.images.numpy(), one.images.numpy(), rtol=1e-6, atol=1e-6)
        assert one.index.tolist() == other.index.tolist()
        if one.mixed is not None and other.mixed is not None:
            assert one.mixed.labels.tolist() == other.mixed.labels.tolist()


def test_arithmetic_on_the_device_is_the_tables():
    """What a GPU computes of uint8 images is what the table says, within a rounding."""
    import paddle

    from resnet50_pipeline.imaging.normalize import NormalizeImage
    from resnet50_pipeline.trainer.on_device import normalize_on_device

    values = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16).repeat(3, axis=1)
    found = normalize_on_device(paddle.to_tensor(values), NormalizeImage()).numpy()
    expected = NormalizeImage().table.T.reshape(1, 3, 16, 16)
    np.testing.assert_allclose(found, expected, rtol=2e-7, atol=1e-7)


def test_erasing_is_sent_as_float32(split: SplitConfig):
    """RandomErasing works on normalised pixels, so such batches are float32 all the way, as without the wish."""
    ops = [*split.model_dump(mode="json")["dataset"]["transform_ops"], {"RandomErasing": {"EPSILON": 1.0}}]
    split = with_values(split, "dataset", transform_ops=ops)
    sent = with_values(split, "loader", normalize_on_device=True)
    for one, other in zip(load(split), load(sent), strict=True):
        np.testing.assert_array_equal(one.images.numpy(), other.images.numpy())


def test_an_epoch_that_is_left_does_not_disturb_the_next(split: SplitConfig):
    """After a break in mid-epoch the next iteration has its own batches only."""
    expected = [batch.images.numpy() for batch in load(split)]
    loader, _ = make_loader(with_values(split, "loader", num_workers=2))
    for _ in range(3):
        for batch in loader:
            np.testing.assert_array_equal(batch.images.numpy(), expected[0])
            break
    for batch, images in zip(loader, expected, strict=True):
        np.testing.assert_array_equal(batch.images.numpy(), images)


def test_without_shared_memory_batches_come_through_the_pipe(split: SplitConfig):
    """`use_shared_memory: false` changes nothing about the batches."""
    expected = [batch.images.numpy() for batch in load(split)]
    found = load(with_values(split, "loader", num_workers=2, use_shared_memory=False))
    for batch, images in zip(found, expected, strict=True):
        np.testing.assert_array_equal(batch.images.numpy(), images)


def test_a_killed_loader_process_is_an_error(split: SplitConfig):
    """A loader process that the kernel kills ends the run with what to do, and does not hang it."""
    # Those of loaders before it may still be about to go.
    others = set(psutil.Process().children())
    loader, _ = make_loader(with_values(split, "loader", num_workers=1))
    loading = iter(loader)
    next(loading)
    started = [child for child in psutil.Process().children() if child not in others]
    assert len(started) == 1
    started[0].kill()
    with pytest.raises(LoaderProcessError, match="num_workers"):
        for _ in range(20):
            next(loading)


class _WantsTwo(Exception):  # noqa: N818 - as libraries have them
    def __init__(self, what: str, why: str) -> None:
        super().__init__(f"{what} {why}")


def test_an_error_that_cannot_be_sent_is_not_a_killed_process(split: SplitConfig, monkeypatch: pytest.MonkeyPatch):
    """An exception that cannot be built from its message arrives with its name and its words."""

    def fail(*_: object) -> None:
        raise _WantsTwo("decoder", "broke")

    monkeypatch.setattr(ListDataset, "read", fail)
    loader, _ = make_loader(with_values(split, "loader", num_workers=1))
    with pytest.raises(LoaderProcessError, match="a loader process failed: _WantsTwo: decoder broke"):
        next(iter(loader))


PROGRAM = """
import os, sys
from pathlib import Path
from resnet50_pipeline.training_config import SplitConfig
from resnet50_pipeline.imagenet.list_files import read_list_file
from resnet50_pipeline.trainer.data import ListDataset, Loader
from resnet50_pipeline.trainer.ranks import Ranks
from resnet50_pipeline.trainer.sampling import TrainBatches
split = SplitConfig.model_validate_json(Path(sys.argv[1]).read_text())
entries = read_list_file(Path(split.dataset.cls_label_path), class_num=3)
batches = TrainBatches(len(entries), split, Ranks(0, 1, "cpu"), seed=7)
batches.epoch = 1
loading = iter(Loader(ListDataset(entries, split, seed=7), batches, split))
next(loading)
print("loading", flush=True)
sys.stdin.read()
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, None], ids=["killed", "ended"])
def test_processes_and_memory_go_with_the_rank(split: SplitConfig, tmp_path: Path, how: signal.Signals | None):
    """A rank that is killed, or ends in mid-epoch, leaves no loader process and nothing in /dev/shm."""
    config = tmp_path / "split.json"
    config.write_text(with_values(split, "loader", num_workers=2).model_dump_json())
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(config)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as rank:
        assert rank.stdout is not None
        while rank.stdout.readline() != "loading\n":
            assert rank.poll() is None
        workers = psutil.Process(rank.pid).children(recursive=True)
        assert len(workers) >= 2
        names = [f"paddle_{pid}_" for pid in (rank.pid, *(worker.pid for worker in workers))]
        if how is not None:
            os.kill(rank.pid, how)
        rank.communicate(timeout=60)
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert not alive
    time.sleep(0.1)
    left = [path.name for path in Path("/dev/shm").iterdir() if path.name.startswith(tuple(names))]  # noqa: S108
    assert not left


@pytest.mark.parametrize("workers", [0, 2])
def test_decoding_regions_changes_no_batch(split: SplitConfig, workers: int):
    """With or without nvImageCodec, in the rank or in processes of its own, the batches are the same."""
    region = with_values(split, "loader", decode="region", num_workers=workers)
    for one, other in zip(load(split), load(region), strict=True):
        np.testing.assert_array_equal(one.images.numpy(), other.images.numpy())


def test_missing_binding_is_told(split: SplitConfig, monkeypatch: pytest.MonkeyPatch):
    """A wish for regions that cannot be fulfilled is named at the start, with the package."""
    monkeypatch.setattr("resnet50_pipeline.trainer.data.can_decode_regions", lambda: False)
    entries = read_list_file(Path(split.dataset.cls_label_path), class_num=3)
    assert not ListDataset(entries, split, seed=7).warnings()
    (warning,) = ListDataset(entries, with_values(split, "loader", decode="region"), seed=7).warnings()
    assert "nvidia-nvimgcodec-cu12" in warning


def test_wishes_reach_the_train_loader_only(striped_dataset: Path, dataset_parameters, training_parameters):
    """`training.loader` sets what is decoded and sent in training; an evaluation is as ever."""
    training = training_parameters(loader={"num_workers": 1, "decode": "region", "normalize_on_device": True})
    lists = (striped_dataset / f"{name}_list.txt" for name in ("train", "val"))
    splits = render_training_config(training, dataset_parameters, *lists).DataLoader
    assert (splits.Train.loader.decode, splits.Train.loader.normalize_on_device) == ("region", True)
    assert (splits.Eval.loader.decode, splits.Eval.loader.normalize_on_device) == ("whole", False)
