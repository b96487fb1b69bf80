"""The ranks classify corrupted copies of the evaluated images."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from placed import PlacedDataset
from resnet50_pipeline.imagenet.lists.files import read_list_file
from resnet50_pipeline.imaging.corruptions.corrupt import corrupt
from resnet50_pipeline.imaging.corruptions.names import SEVERITIES
from resnet50_pipeline.paddleclas.evaluated_model import find_best_model
from resnet50_pipeline.paddleclas.robustness import measure_robustness
from resnet50_pipeline.trainer.data.dataset import ListDataset
from resnet50_pipeline.trainer.data.sampling import Key
from resnet50_pipeline.trainer.ranks import Ranks
from resnet50_pipeline.trainer.robustness.corrupted import CorruptedBatches, CorruptedDataset, Variant
from short_training import train


@pytest.mark.parametrize(("images", "batch_size", "count"), [(7, 4, 2), (1, 50, 3), (5, 3, 1)])
def test_each_copy_belongs_to_one_rank(images, batch_size, count):
    """Together, the ranks classify each copy of each image once, and the copies of an image are consecutive."""
    found = []
    for rank in range(count):
        batches = CorruptedBatches(images, batch_size, Ranks(rank, count, "cpu"), variants=10)
        keys = [key for batch in batches for key in batch]
        assert len(batches) == len(list(batches))
        assert [key.copy for key in keys] == list(range(10)) * (len(keys) // 10)
        assert {key.row % count for key in keys} <= {rank}
        found += keys
    assert sorted(found) == [Key(0, row, copy) for row in range(images) for copy in range(10)]


@pytest.mark.slow
def test_the_counts_are_those_of_a_single_loop(training_parameters, dataset_parameters: PlacedDataset, tmp_path: Path):
    """Two ranks and one rank both count the same errors as the network does on images that are corrupted one by one."""
    import paddle

    from resnet50_pipeline.trainer.evaluated_model import load_evaluated_model

    training = training_parameters(epochs=2)
    train(training, dataset_parameters)
    model = find_best_model(training.output_dir)
    list_file = dataset_parameters.root / "val_list.txt"
    tables = [
        measure_robustness(
            model,
            list_file,
            training.launch.model_copy(update={"devices": devices}),
            corruptions=["impulse_noise", "contrast"],
            batch_size_per_rank=4,
            work_parent=tmp_path,
            clean_seconds=1.0,
        )
        for devices in ((0, 1), (0,))
    ]
    assert tables[0].equals(tables[1])
    entries = read_list_file(list_file, class_num=model.config.Arch.class_num)
    split = model.config.DataLoader.Eval
    clean = ListDataset(entries, split, seed=0)
    network = load_evaluated_model(model.config, model.path).network
    network.eval()
    errors = []
    for severity in SEVERITIES:
        wrong = 0
        for row, (path, label) in enumerate(zip(entries.paths, entries.labels, strict=True)):
            image = clean.transform(Key(0, row))
            assert not image.operators.is_rgb
            pixels = cv2.cvtColor(
                corrupt(cv2.cvtColor(image.pixels, cv2.COLOR_BGR2RGB), "impulse_noise", severity, path),
                cv2.COLOR_RGB2BGR,
            )
            batch = np.empty((1, 3, *pixels.shape[:2]), dtype=np.float32)
            clean.write(image._replace(pixels=pixels), batch[0])
            with paddle.no_grad():
                wrong += int(network(paddle.to_tensor(batch)).numpy().argmax()) != label
        errors.append(wrong)
    noise = tables[0][tables[0]["corruption"] == "impulse_noise"]
    assert noise["severity"].tolist() == list(SEVERITIES)
    assert noise["errors"].tolist() == errors
    assert set(tables[0]["images"]) == {len(entries.paths)}
    assert not list(tmp_path.glob(".evaluation-*"))


def test_an_image_is_decoded_once(training_parameters, dataset_parameters: PlacedDataset, monkeypatch):
    """Consecutive copies of an image use the same decoded pixels, and other images do not."""
    from placed import render_training_config

    config = render_training_config(training_parameters(), dataset_parameters)
    entries = read_list_file(dataset_parameters.root / "val_list.txt", class_num=config.Arch.class_num)
    variants = [Variant("contrast", severity) for severity in SEVERITIES]
    dataset = CorruptedDataset(entries, config.DataLoader.Eval, 0, variants)
    reads: list[int] = []
    read = dataset.read
    monkeypatch.setattr(dataset, "read", lambda row: reads.append(row) or read(row))
    images = [dataset.transform(Key(0, row, copy)).pixels for row in (0, 1) for copy in range(5)]
    assert reads == [0, 1]
    deviations = [float(pixels.std()) for pixels in images[:5]]
    assert deviations == sorted(deviations, reverse=True)
    assert deviations[0] > deviations[-1]
