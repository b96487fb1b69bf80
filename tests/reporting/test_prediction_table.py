"""`reporting.prediction_table` and `reporting.classes`: what is refused, and what is said about it."""

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
    """Twelve good predictions of six classes."""
    return make_evaluation(class_num=6, images_per_class=2).predictions


def _refusal(predictions: pd.DataFrame, class_num: int | None = 6) -> EvaluationTableError:
    with pytest.raises(EvaluationTableError) as caught:
        read_prediction_table(predictions, class_num)
    return caught.value


def test_a_good_table_becomes_arrays(predictions):
    """Columns become arrays of the documented types and shapes."""
    table = read_prediction_table(predictions, class_num=6)

    assert table.labels.dtype == table.top_ids.dtype == np.int64
    assert table.top_ids.shape == table.top_probabilities.shape == (12, 5)
    assert table.losses.dtype == np.float64


def test_missing_columns_are_all_named(predictions):
    """Every column that is not there is named, and those that are."""
    error = _refusal(predictions.drop(columns=["loss", "label"]))

    assert "columns label, loss are missing (there are path, top5_ids, top5_probabilities)" in str(error)
    assert isinstance(error, PipelineError)


def test_an_empty_table_is_refused(predictions):
    """No rows is an error and not an accuracy of NaN."""
    assert "there is no row" in str(_refusal(predictions.head(0)))


def test_a_path_that_stands_twice_is_refused(predictions):
    """An image would count twice; its row and path are named."""
    predictions.loc[3, "path"] = predictions.loc[1, "path"]

    assert f"row 3: {predictions.loc[1, 'path']} stands here a second time (1 such rows)" in str(_refusal(predictions))


@pytest.mark.parametrize("label", [-1, 6])
def test_a_label_outside_the_classes_is_refused(predictions, label):
    """The row, the label and the range are named."""
    predictions.loc[4, "label"] = label

    error = str(_refusal(predictions))

    assert f"predictions row 4 ({predictions.loc[4, 'path']}): label is {label}" in error
    assert "within 0..5 (class_num is 6)" in error


def test_a_negative_label_is_refused_without_knowing_the_classes(predictions):
    """The lower bound holds also where the number of classes is not known."""
    predictions.loc[4, "label"] = -1

    assert "label is -1, it must be 0 or more" in str(_refusal(predictions, class_num=None))


@pytest.mark.parametrize(
    ("labels", "found"),
    [([0.5] * 12, "float64 with 0 empty cells"), (pd.array([None, *range(11)], dtype="Int64"), "1 empty cells")],
)
def test_labels_that_are_not_whole_numbers_are_refused(predictions, labels, found):
    """Fractions and gaps are no labels."""
    assert found in str(_refusal(predictions.assign(label=labels)))


@pytest.mark.parametrize(
    ("ids", "found"),
    [
        ([0, 1, 2], "every row must be a list of the same length (5; 1 rows are not)"),
        (None, "every row must be a list"),
        ([0, 1, 2, 3, 3], "names a class twice"),
        ([0, 1, 2, 3, 6], "a top-5 id is 6"),
    ],
)
def test_a_broken_top_5_is_refused(predictions, ids, found):
    """Short, missing, repeated and unknown ids are each named."""
    predictions.at[7, "top5_ids"] = ids

    error = str(_refusal(predictions))

    assert found in error
    assert "row 7" in error


def test_ids_that_are_not_whole_numbers_are_refused(predictions):
    """A column of fractions is not taken for ids."""
    predictions["top5_ids"] = [[0.1, 1.0, 2.0, 3.0, 4.0]] * 12

    assert "top5_ids must hold int64 values, it holds float64" in str(_refusal(predictions))


def test_a_top_3_where_there_should_be_a_top_5_is_refused(predictions):
    """The number of ids follows from the number of classes."""
    for column in ("top5_ids", "top5_probabilities"):
        predictions[column] = [row[:3] for row in predictions[column]]

    assert "top5_ids has 3 ids a row, it must have 5 for 6 classes" in str(_refusal(predictions))


@pytest.mark.parametrize(
    "probabilities",
    [[0.1, 0.2, 0.3, 0.2, 0.2], [1.2, 0.1, 0.0, 0.0, 0.0], [float("nan")] * 5, [0.5, 0.2, 0.1, 0.0, -0.1]],
)
def test_probabilities_that_rise_or_leave_their_range_are_refused(predictions, probabilities):
    """Unsorted, above one, negative and NaN probabilities are each refused."""
    predictions.at[2, "top5_probabilities"] = probabilities

    assert "predictions row 2" in str(_refusal(predictions))
    assert "must fall from the first to the last and lie within 0..1" in str(_refusal(predictions))


def test_fewer_probabilities_than_ids_are_refused(predictions):
    """Each id has its probability."""
    predictions["top5_probabilities"] = [row[:4] for row in predictions["top5_probabilities"]]

    assert "top5_probabilities has 4 values a row and top5_ids 5" in str(_refusal(predictions))


def test_a_loss_that_is_not_finite_is_refused(predictions):
    """A diverged checkpoint does not become a metric."""
    predictions.loc[0, "loss"] = np.nan

    assert "loss is nan (1 such rows); the checkpoint's weights are probably not finite" in str(_refusal(predictions))


def test_all_findings_come_in_one_pass(predictions):
    """Three different faults give three problems, at once."""
    predictions.loc[0, "path"] = predictions.loc[1, "path"]
    predictions.loc[2, "label"] = 9
    predictions.loc[3, "loss"] = np.inf

    assert len(_refusal(predictions).problems) == 3


def test_a_label_map_with_gaps_is_refused():
    """Ids must be 0..class_num-1, for tables are indexed by them."""
    label_map = {
        "class_num": 2,
        "classes": [{"id": 0, "synset": "a", "name": "a"}, {"id": 2, "synset": "b", "name": "b"}],
    }

    with pytest.raises(EvaluationTableError, match=r"ids must be 0\.\.1 in this order .* the ids 0, 2"):
        read_class_names(label_map)


def test_classes_without_a_name_are_shown_by_their_synset():
    """A label is never empty and never ambiguous."""
    classes = [
        {"id": 0, "synset": "n01", "name": ""},
        {"id": 1, "synset": "", "name": ""},
        {"id": 2, "synset": "", "name": "owl"},
        {"id": 3, "synset": "n04", "name": "owl"},
        {"id": 4, "synset": "n05", "name": "a\nname  on two lines"},
    ]

    labels = read_class_names({"class_num": 5, "classes": classes}).labels

    assert labels == ("n01", "class 1", "owl (2)", "owl (n04)", "a name on two lines")
