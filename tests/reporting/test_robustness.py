"""The errors on corrupted images are summarized by corruption and by category."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from evaluation_tables import EvaluationTables, make_evaluation
from report_pages import Page, read_data, render_page

from resnet50_pipeline.exceptions import EvaluationTableError
from resnet50_pipeline.hooks.logged_datasets import LOGGED_DATASETS
from resnet50_pipeline.reporting.data_quality.robustness import (
    ROBUSTNESS_COLUMNS,
    describe_robustness,
    robustness_metrics,
    tabulate_robustness,
)
from resnet50_pipeline.reporting.prediction_table import PredictionTable, read_prediction_table

ERRORS = {"gaussian_noise": [10, 20, 30, 40, 50], "fog": [0, 0, 0, 0, 5], "frost": [10, 10, 10, 10, 10]}


@pytest.fixture
def evaluation() -> EvaluationTables:
    return make_evaluation(class_num=10, images_per_class=10, skill=2)


@pytest.fixture
def clean(evaluation) -> PredictionTable:
    return read_prediction_table(evaluation.predictions)


@pytest.fixture
def table(clean) -> pd.DataFrame:
    rows = [(name, severity, 100, count) for name, counts in ERRORS.items() for severity, count in enumerate(counts, 1)]
    counts = pd.DataFrame(rows, columns=["corruption", "severity", "images", "errors"])
    return tabulate_robustness(counts, clean)


def test_the_table_has_categories_and_notes(table, clean):
    """Each row has a category and an error, and the rows for frost note that the texture is generated."""
    assert tuple(table.columns) == ROBUSTNESS_COLUMNS
    assert table["category"].tolist() == ["noise"] * 5 + ["weather"] * 10
    assert table["top1_error"].tolist()[:5] == [0.1, 0.2, 0.3, 0.4, 0.5]
    assert table["note"].astype(bool).tolist() == [False] * 10 + [True] * 5
    assert np.allclose(table["clean_top1_error"], 1 - clean.is_top1.mean())


def test_the_means_give_each_corruption_the_same_weight(table, clean):
    """The mean corruption error is the mean over all corruptions, and a category has the mean of its corruptions."""
    found = robustness_metrics(table)
    assert found["noise_error"] == pytest.approx(0.3)
    assert found["weather_error"] == pytest.approx((0.01 + 0.1) / 2)
    assert found["mean_corruption_error"] == pytest.approx((0.3 + 0.01 + 0.1) / 3)
    difference = found["mean_corruption_error"] - found["relative_mean_corruption_error"]
    assert difference == pytest.approx(1 - clean.is_top1.mean())
    assert set(found) == {"mean_corruption_error", "relative_mean_corruption_error", "noise_error", "weather_error"}
    assert set(LOGGED_DATASETS["robustness"].metrics(table)) == {f"robustness/{name}" for name in found}
    assert LOGGED_DATASETS["robustness"].has_artifact(table)


def test_without_corruptions_there_is_nothing_to_show(clean, evaluation, tmp_path):
    """A table without rows results in no metrics, no artifact and no section."""
    counts = pd.DataFrame(columns=["corruption", "severity", "errors", "images"])
    table = tabulate_robustness(counts, clean)
    assert len(table) == 0
    assert robustness_metrics(table) == {}
    assert not LOGGED_DATASETS["robustness"].has_artifact(table)
    assert describe_robustness(table, {}) is None
    table.to_parquet(tmp_path / "robustness.parquet")
    loaded = pd.read_parquet(tmp_path / "robustness.parquet")
    assert "robustness" not in Page(render_page(tmp_path, evaluation, robustness=loaded)).sections


def test_the_report_shows_the_errors(table, evaluation, tmp_path):
    """The section contains the numbers, and the lines in the chart start at the error on the original images."""
    images = len(evaluation.predictions)
    table["images"] = images
    page = render_page(tmp_path, evaluation, robustness=table)
    text = Page(page).sections["robustness"]
    clean = float(table["clean_top1_error"].iloc[0])
    assert "mean corruption error is 13.7%" in text
    assert re.search(r"gaussian noise noise 10\.0% 20\.0% 30\.0% 40\.0% 50\.0% 30\.0%", text)
    assert "frost* weather 10.0% 10.0% 10.0% 10.0% 10.0% 10.0%" in text
    assert "* frost: generated texture instead of photographs." in text
    series = read_data(page)["robustness"]["series"]
    assert [(one["name"], one["severity"]) for one in series] == [
        ("noise", [0, 1, 2, 3, 4, 5]),
        ("weather", [0, 1, 2, 3, 4, 5]),
    ]
    assert series[1]["value"] == pytest.approx([clean, 0.05, 0.05, 0.05, 0.05, 0.075], abs=1e-6)


def test_a_table_of_other_predictions_is_rejected(table):
    """If the evaluation was interrupted after saving new predictions, the report does not mix two models."""
    clean = float(table["clean_top1_error"].iloc[0])
    assert describe_robustness(table, {"top1": 1 - clean, "images": 100}) is not None
    for other in ({"top1": 0.9 - clean, "images": 100}, {"top1": 1 - clean, "images": 99}):
        with pytest.raises(EvaluationTableError, match="other predictions"):
            describe_robustness(table, other)
