"""The metrics have the expected properties for arbitrary predictions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from evaluation_tables import predictions_from_scores
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import top_k_accuracy_score

from resnet50_pipeline.reporting.metrics import (
    compute_metrics,
    confident_mistakes,
    confused_pairs,
    confusion_matrix,
    per_class_table,
)

# On a busy machine, examples would exceed Hypothesis' deadline.
NO_DEADLINE = settings(deadline=None)


@st.composite
def scored_images(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Return labels [N] and scores [N, C]. The scores are small integers, so many of them are equal."""
    class_num = draw(st.integers(3, 12))
    images = draw(st.integers(1, 25))
    labels = draw(arrays(np.int64, images, elements=st.integers(0, class_num - 1)))
    scores = draw(arrays(np.float64, (images, class_num), elements=st.integers(-3, 3).map(float)))
    return labels, scores


def _table(labels: np.ndarray, scores: np.ndarray) -> pd.DataFrame:
    return predictions_from_scores([f"val/{row}.JPEG" for row in range(len(labels))], labels, scores)


def _summary(images: int) -> dict[str, Any]:
    return {"images": images, "seconds": 1.0, "images_per_second": 1.0, "images_per_second_without_loading": 1.0}


def _label_map(class_num: int) -> dict[str, Any]:
    classes = [{"id": i, "synset": f"n{i:08d}", "name": f"class {i}"} for i in range(class_num)]
    return {"class_num": class_num, "classes": classes}


@NO_DEADLINE
@given(scored_images())
def test_accuracies_equal_scikit_learn_for_tied_scores(images):
    """If ties are broken the same way, top-1 and top-5 match scikit-learn."""
    labels, scores = images
    classes = np.arange(scores.shape[1])

    metrics = compute_metrics(_table(labels, scores), _summary(len(labels)))

    assert metrics["top1"] == top_k_accuracy_score(labels, scores, k=1, labels=classes)
    if len(classes) > 5:
        assert metrics["top5"] == top_k_accuracy_score(labels, scores, k=5, labels=classes)
    else:
        assert metrics["top5"] == 1.0


@NO_DEADLINE
@given(scored_images())
def test_top1_is_at_most_top5(images):
    """Top-1 is at most top-5, both overall and for each class, and all accuracies are in 0..1."""
    labels, scores = images
    table = _table(labels, scores)

    metrics = compute_metrics(table, _summary(len(labels)))
    classes = per_class_table(table, _label_map(scores.shape[1])).dropna(subset=["top1"])

    assert 0 <= metrics["top1"] <= metrics["top5"] <= 1
    assert 0 <= metrics["balanced_accuracy"] <= 1
    assert (classes["top1"] <= classes["top5"]).all()
    assert classes["top5"].between(0, 1).all()


@NO_DEADLINE
@given(scored_images(), st.randoms(use_true_random=False))
def test_the_order_of_the_rows_changes_nothing(images, random):
    """Shuffling the predictions does not change the metrics, classes, confusions, or mistakes."""
    labels, scores = images
    table, label_map = _table(labels, scores), _label_map(scores.shape[1])
    rows = list(range(len(labels)))
    random.shuffle(rows)
    shuffled = table.iloc[rows].reset_index(drop=True)

    assert compute_metrics(shuffled, _summary(len(rows))) == compute_metrics(table, _summary(len(rows)))
    np.testing.assert_array_equal(confusion_matrix(shuffled, scores.shape[1]), confusion_matrix(table, scores.shape[1]))
    pd.testing.assert_frame_equal(per_class_table(shuffled, label_map), per_class_table(table, label_map))
    pd.testing.assert_frame_equal(confused_pairs(shuffled, label_map, 9), confused_pairs(table, label_map, 9))
    pd.testing.assert_frame_equal(confident_mistakes(shuffled, label_map, 9), confident_mistakes(table, label_map, 9))


@NO_DEADLINE
@given(scored_images())
def test_the_confusion_matrix_counts_every_image_once(images):
    """Rows sum to the images per class, the diagonal contains the hits, and other cells match the confused pairs."""
    labels, scores = images
    class_num = scores.shape[1]
    table = _table(labels, scores)

    confusion = confusion_matrix(table, class_num)
    classes = per_class_table(table, _label_map(class_num))
    pairs = confused_pairs(table, _label_map(class_num), class_num**2)

    np.testing.assert_array_equal(confusion.sum(axis=1), np.bincount(labels, minlength=class_num))
    np.testing.assert_array_equal(confusion.diagonal(), classes["correct"])
    assert confusion.sum() - confusion.trace() == pairs["images"].sum()
    assert all(confusion[row.true_id, row.predicted_id] == row.images for row in pairs.itertuples())
    mistakes = confusion - np.diag(confusion.diagonal())
    np.testing.assert_array_equal(mistakes.max(axis=1), classes["confused_images"])
