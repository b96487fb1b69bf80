"""The report shows heat maps over the images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from evaluation_tables import make_evaluation
from report_pages import Page, render_page

from resnet50_pipeline.reporting.data_quality.explained import ExplainedImage, draw_heat_map, explain_predictions


def test_bright_regions_are_yellow_and_dark_ones_blue():
    """The colors run from blue (0) to yellow (1), over a gray image."""
    values = np.zeros((4, 4), dtype=np.float32)
    values[:, 2:] = 1
    drawn = draw_heat_map(np.full((32, 32, 3), 128, dtype=np.uint8), values.reshape(-1))
    assert drawn.shape == (144, 144, 3)
    blue, green, red = (int(channel) for channel in drawn[72, 140])
    assert red > blue
    assert green > blue
    blue, green, red = (int(channel) for channel in drawn[72, 4])
    assert blue > green
    black = draw_heat_map(np.zeros((32, 32, 3), dtype=np.uint8), values.reshape(-1))
    assert int(black.sum()) < int(drawn.sum())


@pytest.fixture
def without_file() -> bool:
    """Whether the file of the third image is missing."""
    return False


@pytest.fixture
def explained(
    tmp_path: Path, make_training_parameters, striped_dataset: Path, without_file: bool
) -> tuple[ExplainedImage, ...]:
    """The explained images among four predictions. Three of them have heat maps."""
    from placed import PlacedDataset, render_training_config

    config = render_training_config(
        make_training_parameters(tmp_path / "training"), PlacedDataset(root=striped_dataset, class_num=3)
    )
    (tmp_path / "config.yaml").write_text(config.to_yaml())
    paths = [line.split()[0] for line in (striped_dataset / "val_list.txt").read_text().splitlines()][:4]
    if without_file:
        paths[2] = "missing.JPEG"
    predictions = pd.DataFrame(
        {
            "path": paths,
            "label": [0, 0, 0, 0],
            "top5_ids": [[0, 1, 2], [1, 0, 2], [1, 0, 2], [0, 2, 1]],
            "top5_probabilities": [[0.5, 0.3, 0.2], [0.6, 0.3, 0.1], [0.9, 0.1, 0.0], [0.4, 0.3, 0.3]],
            "loss": [0.7, 1.2, 2.3, 0.9],
            "grad_cam": [[0.0] * 15 + [1.0], [0.5] * 16, [1.0] * 16, None],
        }
    )
    predictions.to_parquet(tmp_path / "predictions.parquet")
    label_map = {"class_num": 3, "classes": [{"id": i, "synset": "", "name": f"class {i}"} for i in range(3)]}
    read = pd.read_parquet(tmp_path / "predictions.parquet")
    return explain_predictions(tmp_path / "config.yaml", read, striped_dataset, label_map)


def test_wrong_predictions_come_first(explained: tuple[ExplainedImage, ...], tmp_path: Path):
    """Only images with a heat map are shown, the most confident wrong predictions first."""
    assert [(one.prediction, one.label, one.is_correct) for one in explained] == [
        ("class 1 90.0%", "class 0", False),
        ("class 1 60.0%", "class 0", False),
        ("class 0 50.0%", "class 0", True),
    ]
    page = Page(render_page(tmp_path, make_evaluation(10, 5), explained=explained))
    assert page.sections["evidence"].count("✗ class 1") == 2
    assert "evidence" not in Page(render_page(tmp_path, make_evaluation(10, 5))).sections


@pytest.mark.parametrize("without_file", [True])
def test_unreadable_image_is_skipped(explained: tuple[ExplainedImage, ...]):
    """An image that cannot be read does not hide the others."""
    assert [one.prediction for one in explained] == ["class 1 60.0%", "class 0 50.0%"]


def test_missing_image_hides_the_section(striped_dataset: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """A report without the images or the configuration is still written."""
    predictions = pd.DataFrame(
        {"path": ["a"], "label": [0], "top5_ids": [[0]], "top5_probabilities": [[1.0]], "loss": [0.0]}
    ).assign(grad_cam=pd.Series([[1.0]], dtype=object))
    label_map = {"class_num": 1, "classes": [{"id": 0, "synset": "", "name": "a"}]}
    assert explain_predictions(tmp_path / "none.yaml", predictions, striped_dataset, label_map) == ()
    assert "the report shows no heat maps" in caplog.text
