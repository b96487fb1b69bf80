"""With grad_cam_images, the predictions contain heat maps of some images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from placed import PlacedDataset
from resnet50_pipeline.exceptions import PipelineError
from resnet50_pipeline.paddleclas.evaluated_model import find_best_model
from resnet50_pipeline.paddleclas.prediction import predict_list
from resnet50_pipeline.trainer.evaluation import Predictions, choose_explained
from short_training import train


def make_predictions(is_correct: list[bool], confidence: list[float]) -> Predictions:
    count = len(is_correct)
    top = np.stack([np.where(is_correct, 0, 1), np.where(is_correct, 1, 0)], axis=1)
    zeros = np.zeros(count, np.int64)
    probabilities = np.stack([np.array(confidence), 1 - np.array(confidence)], axis=1).astype(np.float32)
    return Predictions(np.arange(count) * 2, zeros, top, probabilities, zeros.astype(np.float32), 1.0, 0.0)


def test_wrong_and_right_predictions_share_the_places():
    """The most confident wrong and the least confident correct predictions are chosen, half of each."""
    found = make_predictions([True, False, True, False, True, False], [0.9, 0.6, 0.7, 0.8, 0.95, 0.7])
    assert choose_explained(found, 4) == [6, 10, 4, 0]
    assert choose_explained(found, 3) == [6, 4, 0]
    assert choose_explained(found, 6) == [6, 10, 2, 4, 0, 8]
    assert choose_explained(found, 99) == [6, 10, 2, 4, 0, 8]
    assert choose_explained(make_predictions([True, True, False], [0.9, 0.8, 0.7]), 3) == [4, 2, 0]
    assert choose_explained(make_predictions([False, False, True], [0.9, 0.8, 0.7]), 3) == [0, 2, 4]


@pytest.mark.slow
def test_heat_maps_do_not_change_the_predictions(
    training_parameters, dataset_parameters: PlacedDataset, tmp_path: Path
):
    """Two ranks explain their share of the images, and all other columns stay the same."""
    training = training_parameters(epochs=1)
    train(training, dataset_parameters)
    model = find_best_model(training.output_dir)
    launch = training.launch.model_copy(update={"devices": (0, 1)})
    val_list = dataset_parameters.root / "val_list.txt"
    plain, explained = (
        predict_list(model, val_list, launch, batch_size_per_rank=4, work_parent=tmp_path, grad_cam_images=images)[0]
        for images in (0, 6)
    )
    maps = explained["grad_cam"].dropna()
    assert len(maps) == 6
    assert {row % 2 for row in maps.index} == {0, 1}
    for values in maps:
        assert len(values) == 16
        assert min(values) >= 0
        assert max(values) in (0, 1)
    for name in plain:
        assert (
            explained[name].map(np.atleast_1d).map(list).tolist() == plain[name].map(np.atleast_1d).map(list).tolist()
        )
    explained.to_parquet(tmp_path / "predictions.parquet")


@pytest.mark.slow
def test_exported_models_have_no_heat_maps(training_parameters, dataset_parameters: PlacedDataset, tmp_path: Path):
    """An exported model is rejected, and the error names the parameter."""
    from dataclasses import replace

    from resnet50_pipeline.trainer.export import export_checkpoint

    training = training_parameters(epochs=1)
    train(training, dataset_parameters)
    model = find_best_model(training.output_dir)
    exported = tmp_path / "exported"
    names = ["a", "b", "c"]
    export_checkpoint(model.config, model.path, exported, label_names=names, check_images=2, tolerance=1e-2)
    with pytest.raises(PipelineError, match=r"cannot be computed for an exported model .*grad_cam_images: 0"):
        predict_list(
            replace(model, path=exported),
            dataset_parameters.root / "val_list.txt",
            training.launch,
            batch_size_per_rank=4,
            work_parent=tmp_path,
            grad_cam_images=2,
        )
