"""DALI's batches contain the same images, crops and flips as the ordinary loader's; only the decoder differs."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import paddle
import pytest

from placed import render_training_config
from resnet50_pipeline.exceptions import ImageDecodeError, TrainingConfigError
from resnet50_pipeline.imagenet.lists.files import read_list_file
from resnet50_pipeline.imaging.mixing import Cutmix, Mixup
from resnet50_pipeline.recipe.document import TrainingConfig
from resnet50_pipeline.trainer.data.batches import Batch
from resnet50_pipeline.trainer.data.dali import DaliLoader, build_train_loader, mix_on_device
from resnet50_pipeline.trainer.data.dataset import ListDataset
from resnet50_pipeline.trainer.data.loader import Loader
from resnet50_pipeline.trainer.data.sampling import TrainBatches
from resnet50_pipeline.trainer.share import Share

ALONE = Share(1, range(1))
MIX = [{"OpSampler": {"MixupOperator": {"alpha": 0.5, "prob": 0.5}, "CutmixOperator": {"alpha": 1.0, "prob": 0.5}}}]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """Twelve smooth images of various sizes with a list file; one has an EXIF rotation, and one is a PNG."""
    root = tmp_path_factory.mktemp("pictures")
    (root / "train").mkdir()
    lines = []
    generator = np.random.default_rng(0)
    for number in range(12):
        height, width = (int(side) for side in generator.integers(60, 120, 2))
        pixels = cv2.resize(generator.integers(0, 256, (5, 6, 3), dtype=np.uint8), (width, height))
        name = f"train/{number}.{'png' if number == 3 else 'JPEG'}"
        data = cv2.imencode(Path(name).suffix.replace("JPEG", "jpg"), pixels)[1].tobytes()
        if number == 5:
            exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
            data = data[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + data[2:]
        (root / name).write_bytes(data)
        lines.append(f"{name} {number % 3}\n")
    for split in ("train", "val"):
        (root / f"{split}_list.txt").write_text("".join(lines))
    return root


@pytest.fixture
def config(pictures: Path, dataset_parameters, training_parameters) -> TrainingConfig:
    training = training_parameters(batch_size_per_rank=5, train_transform={"size": 32, "backend": "pil"})
    dataset = dataset_parameters.model_copy(update={"root": pictures})
    return render_training_config(training, dataset, pictures / "train_list.txt", pictures / "val_list.txt")


def changed(config: TrainingConfig, **dataset: object) -> TrainingConfig:
    content = config.model_dump(mode="json")
    content["DataLoader"]["Train"]["dataset"] |= dataset
    return TrainingConfig.model_validate(content)


def load(config: TrainingConfig, with_dali: bool, epoch: int = 1, start_step: int = 0) -> list[Batch]:
    split = config.DataLoader.Train
    entries = read_list_file(Path(split.dataset.cls_label_path), class_num=3)
    batches = TrainBatches(len(entries), split, ALONE, seed=7)
    dataset = ListDataset(entries, split, seed=7)
    loader = DaliLoader(dataset, batches, split, None) if with_dali else Loader(dataset, batches, split)
    batches.epoch, batches.start_step = epoch, start_step
    return list(loader)


def assert_alike(ones: list[Batch], others: list[Batch]) -> None:
    """Check that order and labels are equal, and that pixels differ only as much as decoders and resizers do."""
    assert len(ones) == len(others) > 0
    for one, other in zip(ones, others, strict=True):
        assert one.index.tolist() == other.index.tolist()
        assert one.labels.tolist() == other.labels.tolist()
        assert one.images.shape == other.images.shape
        difference = np.abs(one.images.numpy() - other.images.numpy())
        # One gray level is 0.017 after normalization.
        assert difference.mean() < 0.02
        assert difference.max() < 0.35


class TestWithDali:
    """Tests on DALI's CPU backend; skipped if DALI is not installed."""

    @pytest.fixture(autouse=True)
    def _dali(self) -> None:
        pytest.importorskip("nvidia.dali")

    def test_crops_flips_and_order_match_the_loader(self, config: TrainingConfig):
        """Size, EXIF rotation, crop, flip, label and the smaller last batch match the OpenCV path."""
        for epoch in (1, 2):
            assert_alike(load(config, with_dali=True, epoch=epoch), load(config, with_dali=False, epoch=epoch))

    def test_cv2_backend_resizes_without_antialiasing(self, config: TrainingConfig):
        """For the cv2 backend, DALI interpolates only between neighboring pixels, as OpenCV does."""
        ops = [dict(op) for op in config.model_dump(mode="json")["DataLoader"]["Train"]["dataset"]["transform_ops"]]
        ops[1] = {"RandCropImage": {"size": 32}}
        plain = changed(config, transform_ops=ops)
        assert_alike(load(plain, with_dali=True), load(plain, with_dali=False))

    def test_epoch_can_start_in_the_middle(self, config: TrainingConfig):
        """If an epoch starts in the middle, its pixels are bit-identical to those of the full epoch."""
        whole, rest = load(config, with_dali=True), load(config, with_dali=True, start_step=1)
        for one, other in zip(whole[1:], rest, strict=True):
            np.testing.assert_array_equal(one.images.numpy(), other.images.numpy())

    def test_mixing_and_progressive_resizing_match_the_loader(self, config: TrainingConfig):
        """Mixing and the crop size of each epoch are the same with and without DALI."""
        progress = {"initial_size": 16, "start_epoch": 1, "end_epoch": 2, "divisor": 16}
        mixing = changed(config, batch_transform_ops=MIX, progressive_resize=progress)
        for epoch, side in ((1, 16), (2, 32)):
            ones, others = (load(mixing, with_dali=dali, epoch=epoch) for dali in (True, False))
            assert ones[0].images.shape[-1] == side
            assert_alike(ones, others)
            for one, other in zip(ones, others, strict=True):
                assert one.mixed.labels.tolist() == other.mixed.labels.tolist()
                assert one.mixed.share.tolist() == other.mixed.share.tolist()

    def test_unreadable_images_fail_or_are_skipped(self, config: TrainingConfig, pictures: Path, tmp_path: Path):
        """An unreadable image raises an error or, if allowed, is replaced as it would be without DALI."""
        root = shutil.copytree(pictures, tmp_path / "damaged")
        (root / "train" / "7.JPEG").write_bytes((root / "train" / "7.JPEG").read_bytes()[:-9])
        damaged = changed(config, image_root=str(root))
        with pytest.raises(ImageDecodeError, match=r"7\.JPEG"):
            load(damaged, with_dali=True)
        allowed = damaged.model_copy(deep=True)
        split = allowed.DataLoader.Train
        loader = split.loader.model_copy(update={"max_skipped_images": 1})
        data_loader = allowed.DataLoader.model_copy(update={"Train": split.model_copy(update={"loader": loader})})
        allowed = allowed.model_copy(update={"DataLoader": data_loader})
        ones, others = load(allowed, with_dali=True), load(allowed, with_dali=False)
        assert_alike(ones, others)
        assert [batch.skipped for batch in ones] == [batch.skipped for batch in others]

    def test_unsupported_operators_are_rejected(self, config: TrainingConfig):
        """If DALI does not support an operator, the error names the operator."""
        ops = config.model_dump(mode="json")["DataLoader"]["Train"]["dataset"]["transform_ops"]
        with pytest.raises(TrainingConfigError, match="RandAugment"):
            load(changed(config, transform_ops=[*ops[:2], {"RandAugment": {}}, *ops[2:]]), with_dali=True)


@pytest.mark.parametrize("operator", [Mixup(alpha=0.4), Cutmix(alpha=1.0)])
def test_mixing_on_the_device_matches_the_host(operator):
    """Mixing with Paddle produces the same result as with NumPy, bit for bit on a CPU."""
    images = np.random.default_rng(1).normal(size=(6, 3, 8, 8)).astype(np.float32)
    for seed in range(9):
        plan = operator.plan(6, 8, np.random.default_rng(seed))
        expected = images.copy()
        plan.mix(expected)
        np.testing.assert_array_equal(mix_on_device(paddle.to_tensor(images), plan).numpy(), expected)


def test_devices_without_cuda_are_rejected(config: TrainingConfig):
    """Using DALI on a CPU, on a custom device or with a CPU build of Paddle raises an error that names the device."""
    with_dali = config.model_copy(update={"Global": config.Global.model_copy(update={"use_dali": True})})
    for device in ("cpu", "iluvatar_gpu:0", "gpu:0"):  # no CUDA in this Paddle
        with pytest.raises(TrainingConfigError, match=device):
            build_train_loader(None, None, with_dali, device)


def test_missing_dali_is_an_error(config: TrainingConfig, monkeypatch):
    """If DALI is not installed, the error states which package to install."""
    monkeypatch.setitem(__import__("sys").modules, "nvidia.dali", None)
    with pytest.raises(TrainingConfigError, match="nvidia-dali-cuda120"):
        load(config, with_dali=True)
