"""`reporting.prediction_table` and `reporting.classes` reject malformed tables and report the row and value."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from evaluation_tables import make_evaluation

from resnet50_pipeline.exceptions import EvaluationTableError, PipelineError
from resnet50_pipeline.reporting.classes import read_class_names
from resnet50_pipeline.reporting.prediction_table import read_prediction_table


@pytest.fixture
def predictions() -> pd.DataFrame:
    """Twelve valid predictions of six classes."""
    return make_evaluation(class_num=6, images_per_class=2).predictions


def _rejection(predictions: pd.DataFrame, class_num: int | None = 6) -> EvaluationTableError:
    with pytest.raises(EvaluationTableError) as caught:
        read_prediction_table(predictions, class_num)
    return caught.value


def test_a_valid_table_becomes_arrays(predictions):
    """A valid predictions table is converted to arrays with the documented types and shapes."""
    table = read_prediction_table(predictions, class_num=6)

    assert table.labels.dtype == table.top_ids.dtype == np.int64
    assert table.top_ids.shape == table.top_probabilities.shape == (12, 5)
    assert table.losses.dtype == np.float64


def test_all_missing_columns_are_reported(predictions):
    """The error message lists the missing and the existing columns."""
    error = _rejection(predictions.drop(columns=["loss", "label"]))

    assert "label, loss" in str(error)
    assert "path, top5_ids, top5_probabilities" in str(error)
    assert isinstance(error, PipelineError)


def test_an_empty_table_is_rejected(predictions):
    """A table without rows raises an error instead of producing an accuracy of NaN."""
    assert len(_rejection(predictions.head(0)).problems) == 1


def test_a_repeated_path_is_rejected(predictions):
    """The error message includes the row and path of the repeated image."""
    predictions.loc[3, "path"] = predictions.loc[1, "path"]

    assert f"row 3: {predictions.loc[1, 'path']} " in str(_rejection(predictions))


@pytest.mark.parametrize("label", [-1, 6])
def test_a_label_outside_the_classes_is_rejected(predictions, label):
    """The error message includes the row, the label and the valid range."""
    predictions.loc[4, "label"] = label

    error = str(_rejection(predictions))

    assert f"row 4 ({predictions.loc[4, 'path']}): label {label} " in error
    assert "0..5" in error


def test_a_negative_label_is_rejected_without_knowing_the_classes(predictions):
    """A negative label is an error even if the number of classes is unknown."""
    predictions.loc[4, "label"] = -1

    assert "label -1 " in str(_rejection(predictions, class_num=None))


@pytest.mark.parametrize(
    ("labels", "found"),
    [([0.5] * 12, "float64"), (pd.array([None, *range(11)], dtype="Int64"), "1 empty")],
)
def test_labels_that_are_not_integers_are_rejected(predictions, labels, found):
    """Fractional and missing values are rejected as labels."""
    assert found in str(_rejection(predictions.assign(label=labels)))


@pytest.mark.parametrize(
    ("ids", "found"),
    [
        ([0, 1, 2], "[0, 1, 2]"),
        (None, "None"),
        ([0, 1, 2, 3, 3], "[0, 1, 2, 3, 3]"),
        ([0, 1, 2, 3, 6], "id 6 "),
    ],
)
def test_a_malformed_top_5_is_rejected(predictions, ids, found):
    """The error message includes the row and its ids if there are too few or if one is missing, repeated or unknown."""
    predictions.at[7, "top5_ids"] = ids

    error = str(_rejection(predictions))

    assert found in error
    assert "row 7" in error


def test_ids_that_are_not_integers_are_rejected(predictions):
    """Fractional values are rejected as ids."""
    predictions["top5_ids"] = [[0.1, 1.0, 2.0, 3.0, 4.0]] * 12

    assert "float64" in str(_rejection(predictions))


def test_a_top_3_of_six_classes_is_rejected(predictions):
    """If there are six classes, each row must contain five ids."""
    for column in ("top5_ids", "top5_probabilities"):
        predictions[column] = [row[:3] for row in predictions[column]]

    error = str(_rejection(predictions))

    assert "top5_ids has 3 " in error
    assert "5 for 6 classes" in error


@pytest.mark.parametrize(
    "probabilities",
    [[0.1, 0.2, 0.3, 0.2, 0.2], [1.2, 0.1, 0.0, 0.0, 0.0], [float("nan")] * 5, [0.5, 0.2, 0.1, 0.0, -0.1]],
)
def test_unsorted_or_out_of_range_probabilities_are_rejected(predictions, probabilities):
    """Probabilities that are unsorted, negative, NaN or greater than one are rejected."""
    predictions.at[2, "top5_probabilities"] = probabilities

    assert "row 2 " in str(_rejection(predictions))


def test_fewer_probabilities_than_ids_are_rejected(predictions):
    """Every id must have a probability."""
    predictions["top5_probabilities"] = [row[:4] for row in predictions["top5_probabilities"]]

    assert "top5_probabilities has 4 " in str(_rejection(predictions))


def test_a_loss_that_is_not_finite_is_rejected(predictions):
    """Predictions from a diverged checkpoint are rejected."""
    predictions.loc[0, "loss"] = np.nan

    assert "row 0 " in str(_rejection(predictions))
    assert "loss is nan" in str(_rejection(predictions))


def test_all_problems_are_reported_at_once(predictions):
    """Three different faults are reported as three problems in one error."""
    predictions.loc[0, "path"] = predictions.loc[1, "path"]
    predictions.loc[2, "label"] = 9
    predictions.loc[3, "loss"] = np.inf

    assert len(_rejection(predictions).problems) == 3


def test_a_label_map_with_gaps_is_rejected():
    """Class ids must be 0..class_num-1, because tables are indexed by id."""
    label_map = {
        "class_num": 2,
        "classes": [{"id": 0, "synset": "a", "name": "a"}, {"id": 2, "synset": "b", "name": "b"}],
    }

    with pytest.raises(EvaluationTableError, match=r"0\.\.1, .* 0, 2"):
        read_class_names(label_map)


def test_classes_without_a_name_are_labeled_with_their_synset():
    """Labels are never empty and always unique."""
    classes = [
        {"id": 0, "synset": "n01", "name": ""},
        {"id": 1, "synset": "", "name": ""},
        {"id": 2, "synset": "", "name": "owl"},
        {"id": 3, "synset": "n04", "name": "owl"},
        {"id": 4, "synset": "n05", "name": "a\nname  on two lines"},
    ]

    labels = read_class_names({"class_num": 5, "classes": classes}).labels

    assert labels == ("n01", "class 1", "owl (2)", "owl (n04)", "a name on two lines")
