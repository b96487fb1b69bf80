"""Data loader workers share memory that is reused during the run and released at its end, even after a crash."""

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

from placed import render_training_config
from resnet50_pipeline.exceptions import LoaderProcessError
from resnet50_pipeline.imagenet.lists.files import read_list_file
from resnet50_pipeline.recipe.data_loader import SplitConfig
from resnet50_pipeline.trainer.data.batches import Batch
from resnet50_pipeline.trainer.data.buffers import Buffers
from resnet50_pipeline.trainer.data.dataset import ListDataset
from resnet50_pipeline.trainer.data.loader import Loader
from resnet50_pipeline.trainer.data.sampling import TrainBatches
from resnet50_pipeline.trainer.share import Share

ALONE = Share(1, range(1))


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


def test_buffer_is_free_when_no_array_refers_to_it():
    """A buffer is reused only after every array that shares its memory is gone."""
    buffers = Buffers(2, 64)
    first, second = buffers.take((4,), np.float32), buffers.take((4,), np.float32)
    rest = first[1:]
    third = buffers.take((4,), np.float32)
    assert not any(np.shares_memory(third, other) for other in (first, second))
    address = first.ctypes.data
    del first
    assert not buffers.free
    del rest
    gc.collect()
    assert buffers.take((4,), np.float32).ctypes.data == address
    assert not np.shares_memory(buffers.take((40,), np.float32), second)


@pytest.mark.parametrize("workers", [1, 2])
def test_kept_batches_keep_their_values(split: SplitConfig, workers: int):
    """Even if the caller keeps all batches of an epoch, the images are the same as without workers."""
    expected = [batch.images.numpy() for batch in load(split)]
    kept = load(with_values(split, "loader", num_workers=workers))
    for batch, images in zip(kept, expected, strict=True):
        np.testing.assert_array_equal(batch.images.numpy(), images)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("mix", [None, {"MixupOperator": {"alpha": 0.2}}, {"CutmixOperator": {"alpha": 1.0}}])
def test_uint8_batches_match_float32_batches(split: SplitConfig, workers: int, mix: dict | None):
    """A batch that is normalized and mixed on the device equals one prepared on the host, within rounding."""
    split = with_values(split, "dataset", batch_transform_ops=[mix] if mix else [])
    sent = with_values(split, "loader", normalize_on_device=True, num_workers=workers)
    assert make_loader(sent)[0]._dataset.image_dtype == np.uint8
    for one, other in zip(load(split), load(sent), strict=True):
        np.testing.assert_allclose(other.images.numpy(), one.images.numpy(), rtol=1e-6, atol=1e-6)
        assert one.index.tolist() == other.index.tolist()
        if one.mixed is not None and other.mixed is not None:
            assert one.mixed.labels.tolist() == other.mixed.labels.tolist()


def test_arithmetic_on_the_device_matches_the_table():
    """The arithmetic used on GPUs produces the same values as the lookup table used on CPUs, within rounding."""
    import paddle

    from resnet50_pipeline.imaging.normalize import NormalizeImage
    from resnet50_pipeline.trainer.data.on_device import normalize_on_device

    values = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16).repeat(3, axis=1)
    found = normalize_on_device(paddle.to_tensor(values), NormalizeImage()).numpy()
    expected = NormalizeImage().table.T.reshape(1, 3, 16, 16)
    np.testing.assert_allclose(found, expected, rtol=2e-7, atol=1e-7)


def test_erasing_is_sent_as_float32(split: SplitConfig):
    """RandomErasing needs normalized pixels, so `normalize_on_device` has no effect on such batches."""
    ops = [*split.model_dump(mode="json")["dataset"]["transform_ops"], {"RandomErasing": {"EPSILON": 1.0}}]
    split = with_values(split, "dataset", transform_ops=ops)
    sent = with_values(split, "loader", normalize_on_device=True)
    for one, other in zip(load(split), load(sent), strict=True):
        np.testing.assert_array_equal(one.images.numpy(), other.images.numpy())


def test_aborted_iteration_does_not_affect_the_next(split: SplitConfig):
    """If an iteration ends early, the next one yields only its own batches."""
    expected = [batch.images.numpy() for batch in load(split)]
    loader, _ = make_loader(with_values(split, "loader", num_workers=2))
    for _ in range(3):
        for batch in loader:
            np.testing.assert_array_equal(batch.images.numpy(), expected[0])
            break
    for batch, images in zip(loader, expected, strict=True):
        np.testing.assert_array_equal(batch.images.numpy(), images)


def test_batches_are_the_same_without_shared_memory(split: SplitConfig):
    """`use_shared_memory: false` sends images through a pipe and does not change them."""
    expected = [batch.images.numpy() for batch in load(split)]
    found = load(with_values(split, "loader", num_workers=2, use_shared_memory=False))
    for batch, images in zip(found, expected, strict=True):
        np.testing.assert_array_equal(batch.images.numpy(), images)


def test_killed_worker_is_an_error(split: SplitConfig):
    """If the kernel kills a worker, the run does not hang, and the error states which parameter to lower."""
    # Workers of earlier tests may still be running.
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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_workers_ignore_signals_of_the_terminal(split: SplitConfig, number: int):
    """Workers survive Ctrl-C and a closed terminal, because the rank needs them until it has saved a set."""
    others = set(psutil.Process().children())
    loader, _ = make_loader(with_values(split, "loader", num_workers=1))
    loading = iter(loader)
    first = next(loading)
    (started,) = [child for child in psutil.Process().children() if child not in others]
    started.send_signal(number)
    assert 1 + len(list(loading)) == len(load(split))
    assert first.images.shape[0] > 0


class _TwoArgumentError(Exception):
    def __init__(self, subject: str, problem: str) -> None:
        super().__init__(f"{subject} {problem}")


def test_unpicklable_error_is_reported_as_itself(split: SplitConfig, monkeypatch: pytest.MonkeyPatch):
    """An exception that cannot be unpickled is reported with its type and message, not as a killed worker."""

    def fail(*_: object) -> None:
        raise _TwoArgumentError("decoder", "broke")

    monkeypatch.setattr(ListDataset, "read", fail)
    loader, _ = make_loader(with_values(split, "loader", num_workers=1))
    with pytest.raises(LoaderProcessError, match="_TwoArgumentError: decoder broke"):
        next(iter(loader))


PROGRAM = """
import os, sys
from pathlib import Path
from resnet50_pipeline.recipe.data_loader import SplitConfig
from resnet50_pipeline.imagenet.lists.files import read_list_file
from resnet50_pipeline.trainer.data.dataset import ListDataset
from resnet50_pipeline.trainer.data.loader import Loader
from resnet50_pipeline.trainer.share import Share
from resnet50_pipeline.trainer.data.sampling import TrainBatches
split = SplitConfig.model_validate_json(Path(sys.argv[1]).read_text())
entries = read_list_file(Path(split.dataset.cls_label_path), class_num=3)
batches = TrainBatches(len(entries), split, Share(1, range(1)), seed=7)
batches.epoch = 1
loading = iter(Loader(ListDataset(entries, split, seed=7), batches, split))
next(loading)
print("loading", flush=True)
sys.stdin.read()
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, None], ids=["killed", "ended"])
def test_workers_and_memory_end_with_the_rank(split: SplitConfig, tmp_path: Path, how: signal.Signals | None):
    """If a rank is killed or exits mid-epoch, no worker processes and no files in /dev/shm are left behind."""
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
def test_region_decoding_does_not_change_batches(split: SplitConfig, workers: int):
    """Batches are the same with `decode: region`, with or without nvImageCodec and workers."""
    region = with_values(split, "loader", decode="region", num_workers=workers)
    for one, other in zip(load(split), load(region), strict=True):
        np.testing.assert_array_equal(one.images.numpy(), other.images.numpy())


def test_missing_region_decoder_triggers_a_warning(split: SplitConfig, monkeypatch: pytest.MonkeyPatch):
    """If regions cannot be decoded, a warning at the start of the run states which package to install."""
    monkeypatch.setattr("resnet50_pipeline.trainer.data.dataset.can_decode_regions", lambda: False)
    entries = read_list_file(Path(split.dataset.cls_label_path), class_num=3)
    assert not ListDataset(entries, split, seed=7).warnings()
    (warning,) = ListDataset(entries, with_values(split, "loader", decode="region"), seed=7).warnings()
    assert "nvidia-nvimgcodec-cu12" in warning


def test_loader_options_apply_to_training_only(striped_dataset: Path, dataset_parameters, training_parameters):
    """`training.loader` sets decoding and normalization of train batches; evaluation keeps the defaults."""
    training = training_parameters(loader={"num_workers": 1, "decode": "region", "normalize_on_device": True})
    lists = (striped_dataset / f"{name}_list.txt" for name in ("train", "val"))
    splits = render_training_config(training, dataset_parameters, *lists).DataLoader
    assert (splits.Train.loader.decode, splits.Train.loader.normalize_on_device) == ("region", True)
    assert (splits.Eval.loader.decode, splits.Eval.loader.normalize_on_device) == ("whole", False)
