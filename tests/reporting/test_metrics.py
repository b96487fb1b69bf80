"""`reporting.metrics` computes the correct metrics for tables with known results."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from evaluation_tables import make_evaluation
from sklearn.metrics import balanced_accuracy_score, top_k_accuracy_score
from sklearn.metrics import confusion_matrix as sklearn_confusion_matrix

from resnet50_pipeline.exceptions import EvaluationTableError
from resnet50_pipeline.reporting.metrics import (
    compute_metrics,
    confident_mistakes,
    confused_pairs,
    confusion_matrix,
    per_class_table,
    require_one_evaluation,
)

LABEL_MAP = {
    "class_num": 3,
    "classes": [
        {"id": 0, "synset": "n01", "name": "crane"},
        {"id": 1, "synset": "n02", "name": "crane"},
        {"id": 2, "synset": "n03", "name": "owl"},
    ],
}
# Class 0: correct, predicted as 1, predicted as 1. Class 1: predicted as 2, predicted as 0. Class 2 has no images.
PREDICTIONS = pd.DataFrame(
    {
        "path": ["val/a.JPEG", "val/b.JPEG", "val/c.JPEG", "val/d.JPEG", "val/e.JPEG"],
        "label": [0, 0, 0, 1, 1],
        "top5_ids": [[0, 1, 2], [1, 0, 2], [1, 2, 0], [2, 1, 0], [0, 2, 1]],
        "top5_probabilities": [[0.8, 0.1, 0.1], [0.6, 0.3, 0.1], [0.9, 0.06, 0.04], [0.5, 0.4, 0.1], [0.5, 0.3, 0.2]],
        "loss": np.array([0.2, 1.2, 3.2, 0.9, 1.6], dtype=np.float32),
    }
)
SUMMARY = {"images": 5, "seconds": 2.0, "images_per_second": 2.5, "images_per_second_without_loading": 4.0}


def test_metrics_equal_manual_results():
    """The metrics for five predictions match a manual calculation."""
    metrics = compute_metrics(PREDICTIONS, SUMMARY)

    assert metrics == {
        # In 97.5% of the resamples of five images, there are at most three hits.
        "top1_low": 0.0,
        "top1_high": pytest.approx(0.6),
        "top5_low": 1.0,
        "top5_high": 1.0,
        "balanced_accuracy_low": 0.0,
        "balanced_accuracy_high": pytest.approx(0.5, abs=0.01),
        # Hits / predicted: 1 of 2, 0 of 2, 0 of 1. Twice the hits / (images + predicted): 2 of 5, 0, 0.
        "macro_precision": pytest.approx((1 / 2 + 0 + 0) / 3),
        "macro_f1": pytest.approx((2 / 5 + 0 + 0) / 3),
        "mean_confidence": pytest.approx(3.3 / 5),
        # The two images with 0.5 share a bin. The other gaps are |1 - 0.8|, 0.6 and 0.9. Each image has weight 1/5.
        "ece": pytest.approx((0.2 + 0.6 + 0.9 + 0.5 + 0.5) / 5),
        "mce": pytest.approx(0.9),
        "top1": 0.2,
        "top5": 1.0,
        "balanced_accuracy": pytest.approx((1 / 3 + 0) / 2),
        "loss": pytest.approx(7.1 / 5, rel=1e-6),
        "images": 5,
        "classes": 2,
        "images_per_second": 2.5,
        "images_per_second_without_loading": 4.0,
        "seconds": 2.0,
    }
    assert all(type(value) in {int, float} for value in metrics.values())


def test_class_metrics_equal_manual_results():
    """The table contains the counts and the most frequent mistake of each class.

    Ties go to the lower id, and a class without images gets NaN.
    """
    table = per_class_table(PREDICTIONS, LABEL_MAP)

    assert table["id"].tolist() == [0, 1, 2]
    assert table["images"].tolist() == [3, 2, 0]
    assert table["correct"].tolist() == [1, 0, 0]
    assert table["top1"].tolist()[:2] == [pytest.approx(1 / 3), 0.0]
    assert np.isnan(table.loc[2, ["top1", "top5", "loss"]].astype(float)).all()
    assert table["confused_with_id"].tolist() == [1, 0, -1]
    assert table["confused_with"].tolist() == ["crane (n02)", "crane (n01)", ""]
    assert table["confused_images"].tolist() == [2, 1, 0]


def test_confused_pairs_are_directed_and_have_unique_names():
    """Pairs are directed and sorted by count, and two classes named crane get different labels."""
    pairs = confused_pairs(PREDICTIONS, LABEL_MAP, limit=2)

    assert pairs.to_dict("list") == {
        "true_id": [0, 1],
        "true_name": ["crane (n01)", "crane (n02)"],
        "predicted_id": [1, 0],
        "predicted_name": ["crane (n02)", "crane (n01)"],
        "images": [2, 1],
        "share": [pytest.approx(2 / 3), 0.5],
    }


def test_confident_mistakes_are_sorted_by_probability_and_path():
    """Only wrong predictions are listed, in descending order of probability, then by path, up to the limit."""
    mistakes = confident_mistakes(PREDICTIONS, LABEL_MAP, limit=3)

    assert mistakes["path"].tolist() == ["val/c.JPEG", "val/b.JPEG", "val/d.JPEG"]
    assert mistakes["probability"].tolist() == [0.9, 0.6, 0.5]
    assert mistakes["true_probability"].tolist() == [0.04, 0.3, 0.4]
    assert confident_mistakes(PREDICTIONS, LABEL_MAP, limit=0).empty


def test_a_true_class_outside_the_top_5_has_no_probability():
    """If the true class is not among the top 5, its probability is NaN, not zero."""
    evaluation = make_evaluation(class_num=40, images_per_class=5, skill=0.5)
    mistakes = confident_mistakes(evaluation.predictions, evaluation.label_map, limit=200)

    in_top5 = [
        label in ids
        for label, ids in zip(evaluation.predictions["label"], evaluation.predictions["top5_ids"], strict=True)
    ]
    assert mistakes["true_probability"].isna().sum() == len(in_top5) - sum(in_top5) > 0


@pytest.mark.parametrize("class_num", [6, 10, 200])
def test_accuracies_agree_exactly_with_scikit_learn(class_num):
    """Top-1, top-5, balanced accuracy and the confusion matrix match scikit-learn."""
    evaluation = make_evaluation(class_num, images_per_class=7, skill=1.5)
    labels = evaluation.predictions["label"].to_numpy()
    predicted = np.array([ids[0] for ids in evaluation.predictions["top5_ids"]])
    classes = np.arange(class_num)

    metrics = compute_metrics(evaluation.predictions, evaluation.evaluation_summary)

    assert metrics["top1"] == top_k_accuracy_score(labels, evaluation.scores, k=1, labels=classes)
    assert metrics["top5"] == top_k_accuracy_score(labels, evaluation.scores, k=5, labels=classes)
    assert metrics["balanced_accuracy"] == balanced_accuracy_score(labels, predicted)
    confusion = confusion_matrix(evaluation.predictions, class_num)
    assert confusion.dtype == np.int64
    np.testing.assert_array_equal(confusion, sklearn_confusion_matrix(labels, predicted, labels=classes))


def test_tables_read_back_from_parquet_give_the_same_metrics(tmp_path):
    """Lists in a row become arrays when read from Parquet, but the metrics stay the same."""
    evaluation = make_evaluation(class_num=10, images_per_class=6)
    evaluation.predictions.to_parquet(tmp_path / "predictions.parquet", index=False)
    read_back = pd.read_parquet(tmp_path / "predictions.parquet")

    assert compute_metrics(read_back, evaluation.evaluation_summary) == compute_metrics(
        evaluation.predictions, evaluation.evaluation_summary
    )
    pd.testing.assert_frame_equal(
        per_class_table(read_back, evaluation.label_map), per_class_table(evaluation.predictions, evaluation.label_map)
    )


def test_a_summary_from_another_evaluation_is_rejected():
    """If the summary and the predictions have different numbers of images, an error is raised."""
    with pytest.raises(EvaluationTableError, match=r"\b6\b.*\b5\b"):
        compute_metrics(PREDICTIONS, {**SUMMARY, "images": 6})


def test_a_summary_without_numbers_is_rejected_with_all_problems():
    """A missing value and an infinite value are both reported."""
    broken = {**SUMMARY, "images_per_second": float("inf")}
    del broken["seconds"]

    with pytest.raises(EvaluationTableError) as caught:
        compute_metrics(PREDICTIONS, broken)

    assert len(caught.value.problems) == 2
    speed, seconds = caught.value.problems
    assert "images_per_second " in speed
    assert "inf" in speed
    assert "seconds " in seconds
    assert "None" in seconds


def test_metrics_of_other_predictions_are_rejected():
    """If an evaluation was killed between two nodes, the old metrics and tables do not get into a report."""
    old, new = make_evaluation(10, 5, seed=0), make_evaluation(10, 5, seed=1)
    metrics, per_class = (
        compute_metrics(new.predictions, new.evaluation_summary),
        per_class_table(new.predictions, new.label_map),
    )
    require_one_evaluation(new.predictions, json.loads(json.dumps(metrics)), per_class)
    with pytest.raises(EvaluationTableError, match=r"^metrics: computed from other predictions"):
        require_one_evaluation(new.predictions, compute_metrics(old.predictions, old.evaluation_summary), per_class)
    easier = make_evaluation(10, 5, seed=1, skill=9.0)
    with pytest.raises(EvaluationTableError, match=r"^per_class_metrics: computed from other predictions"):
        require_one_evaluation(new.predictions, metrics, per_class_table(easier.predictions, easier.label_map))
