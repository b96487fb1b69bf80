"""`reporting.metrics` on tables whose answers are known."""

from __future__ import annotations

import time

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
)

LABEL_MAP = {
    "class_num": 3,
    "classes": [
        {"id": 0, "synset": "n01", "name": "crane"},
        {"id": 1, "synset": "n02", "name": "crane"},
        {"id": 2, "synset": "n03", "name": "owl"},
    ],
}
# Class 0: right, taken for 1, taken for 1. Class 1: taken for 2, taken for 0. Class 2 has no images.
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


def test_metrics_of_a_table_worked_out_by_hand():
    """Every metric of five predictions is the one that pencil and paper give."""
    metrics = compute_metrics(PREDICTIONS, SUMMARY)

    assert metrics == {
        # Of a share of five images: two hits of five are beyond 97.5 % of the resamples, three are not.
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
        # Each confidence has a bin of its own, but the two of 0.5: |1 - 0.8|, 0.6, 0.9, and twice 0.5, a fifth each.
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


def test_classes_of_a_table_worked_out_by_hand():
    """Each class has its counts and its most frequent mistake; equal counts go to the lower id, no images to NaN."""
    table = per_class_table(PREDICTIONS, LABEL_MAP)

    assert table["id"].tolist() == [0, 1, 2]
    assert table["images"].tolist() == [3, 2, 0]
    assert table["correct"].tolist() == [1, 0, 0]
    assert table["top1"].tolist()[:2] == [pytest.approx(1 / 3), 0.0]
    assert np.isnan(table.loc[2, ["top1", "top5", "loss"]].astype(float)).all()
    assert table["confused_with_id"].tolist() == [1, 0, -1]
    assert table["confused_with"].tolist() == ["crane (n02)", "crane (n01)", ""]
    assert table["confused_images"].tolist() == [2, 1, 0]


def test_confused_pairs_have_a_direction_and_names_that_differ():
    """Mistakes are counted by direction, the worst first, and two classes named crane are told apart."""
    pairs = confused_pairs(PREDICTIONS, LABEL_MAP, limit=2)

    assert pairs.to_dict("list") == {
        "true_id": [0, 1],
        "true_name": ["crane (n01)", "crane (n02)"],
        "predicted_id": [1, 0],
        "predicted_name": ["crane (n02)", "crane (n01)"],
        "images": [2, 1],
        "share": [pytest.approx(2 / 3), 0.5],
    }


def test_confident_mistakes_come_surest_first_and_then_by_path():
    """Only wrong predictions are listed, by falling probability, equal ones by path, and no more than asked for."""
    mistakes = confident_mistakes(PREDICTIONS, LABEL_MAP, limit=3)

    assert mistakes["path"].tolist() == ["val/c.JPEG", "val/b.JPEG", "val/d.JPEG"]
    assert mistakes["probability"].tolist() == [0.9, 0.6, 0.5]
    assert mistakes["true_probability"].tolist() == [0.04, 0.3, 0.4]
    assert confident_mistakes(PREDICTIONS, LABEL_MAP, limit=0).empty


def test_a_true_class_outside_the_top_5_has_no_probability():
    """Where the true class is not among the five, its probability is unknown and not zero."""
    evaluation = make_evaluation(class_num=40, images_per_class=5, skill=0.5)
    mistakes = confident_mistakes(evaluation.predictions, evaluation.label_map, limit=200)

    in_top5 = [
        label in ids
        for label, ids in zip(evaluation.predictions["label"], evaluation.predictions["top5_ids"], strict=True)
    ]
    assert mistakes["true_probability"].isna().sum() == len(in_top5) - sum(in_top5) > 0


@pytest.mark.parametrize("class_num", [6, 10, 200])
def test_accuracies_agree_exactly_with_scikit_learn(class_num):
    """top-1, top-5, balanced accuracy and the confusion matrix are scikit-learn's, to the last bit."""
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
    """The lists of a row come back from Parquet as arrays, and nothing changes."""
    evaluation = make_evaluation(class_num=10, images_per_class=6)
    evaluation.predictions.to_parquet(tmp_path / "predictions.parquet", index=False)
    read_back = pd.read_parquet(tmp_path / "predictions.parquet")

    assert compute_metrics(read_back, evaluation.evaluation_summary) == compute_metrics(
        evaluation.predictions, evaluation.evaluation_summary
    )
    pd.testing.assert_frame_equal(
        per_class_table(read_back, evaluation.label_map), per_class_table(evaluation.predictions, evaluation.label_map)
    )


def test_a_summary_of_another_evaluation_is_refused():
    """Metrics never mix predictions with the speed of other ones."""
    with pytest.raises(EvaluationTableError, match=r"images is 6, but predictions has 5 rows"):
        compute_metrics(PREDICTIONS, {**SUMMARY, "images": 6})


def test_a_summary_without_numbers_is_refused_with_every_finding():
    """A missing and an infinite speed are both named."""
    broken = {**SUMMARY, "images_per_second": float("inf")}
    del broken["seconds"]

    with pytest.raises(EvaluationTableError) as caught:
        compute_metrics(PREDICTIONS, broken)

    assert len(caught.value.problems) == 2
    assert "images_per_second must be a finite number, it is inf" in str(caught.value)
    assert "seconds must be a finite number, it is None" in str(caught.value)


def test_imagenet_s_size_takes_less_than_two_seconds():
    """All metrics of 50,000 predictions over 1,000 classes are there within two seconds."""
    draw = np.random.default_rng(0)
    labels = np.repeat(np.arange(1000), 50)
    ids = (labels[:, None] + draw.integers(0, 2, size=(50_000, 1)) + np.arange(5)) % 1000
    predictions = pd.DataFrame(
        {
            "path": [f"val/ILSVRC2012_val_{i:08d}.JPEG" for i in range(50_000)],
            "label": labels,
            "top5_ids": list(ids),
            "top5_probabilities": list(np.tile([0.5, 0.2, 0.1, 0.1, 0.1], (50_000, 1))),
            "loss": draw.random(50_000, dtype=np.float32),
        }
    )
    label_map = {
        "class_num": 1000,
        "classes": [{"id": i, "synset": f"n{i:08d}", "name": f"class {i}"} for i in range(1000)],
    }

    start = time.perf_counter()
    compute_metrics(predictions, {**SUMMARY, "images": 50_000})
    per_class_table(predictions, label_map)
    confusion_matrix(predictions, 1000)
    confused_pairs(predictions, label_map, 20)
    confident_mistakes(predictions, label_map, 48)

    assert time.perf_counter() - start < 2
