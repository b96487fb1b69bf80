"""`reporting.data_quality.label_issues` finds the same images as cleanlab, and shows them in the report."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from evaluation_tables import make_evaluation, write_digits
from numpy.typing import NDArray
from report_pages import REVIEW, Page, render_page

from resnet50_pipeline.child_runs.run_file import label_map_path_of, predictions_path_of
from resnet50_pipeline.exceptions import EvaluationTableError
from resnet50_pipeline.folds.results import write_out_of_fold_predictions
from resnet50_pipeline.imagenet.lists.files import parse_list
from resnet50_pipeline.imagenet.lists.fixes import Fix, read_fixes
from resnet50_pipeline.reporting.classes import ClassNames
from resnet50_pipeline.reporting.data_quality.label_gallery import describe_label_issues
from resnet50_pipeline.reporting.data_quality.label_issues import (
    find_label_issues,
    label_probabilities,
    read_label_issues,
    read_out_of_fold_predictions,
    score_labels,
    select_train_images,
    tabulate_label_issues,
)
from resnet50_pipeline.reporting.prediction_table import PredictionTable


def make_table(labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> PredictionTable:
    """Return predictions with these probabilities for all classes, [N, K]."""
    rows = np.arange(len(labels))
    top = np.argsort(-probabilities, axis=1)[:, :5]
    return PredictionTable(
        np.array([f"val/{row}.JPEG" for row in rows], dtype=object),
        labels,
        top,
        np.take_along_axis(probabilities, top, axis=1),
        -np.log(probabilities[rows, labels]),
    )


def make_noisy(images: int, classes: int, seed: int, noise: float, spread: float) -> tuple[PredictionTable, NDArray]:
    """Return predictions for random labels, and a mask of the wrong labels, which are a fraction `noise` of all."""
    random = np.random.default_rng(seed)
    true = random.integers(classes, size=images)
    logits = random.normal(size=(images, classes)) * spread
    logits[np.arange(images), true] += 3
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels, flipped = true.copy(), random.random(images) < noise
    labels[flipped] = (true[flipped] + random.integers(1, classes, size=flipped.sum())) % classes
    return make_table(labels, probabilities), flipped


# cleanlab 2.9.0 with NumPy 2: find_label_issues(labels, probabilities, return_indices_ranked_by="normalized_margin").
# These values were computed once, in a separate environment, on 2026-11-30.
CLEANLAB = [
    ((60, 3, 0, 0.15, 1.2), [57, 33, 52, 19, 6, 42, 54]),
    ((40, 2, 2, 0.2, 1.0), [15, 18, 9, 38, 39, 4, 31, 8, 35]),
    (
        (200, 5, 1, 0.1, 1.5),
        [
            *(80, 121, 148, 37, 188, 34, 43, 109, 152, 23, 94, 16, 137, 173, 159, 105, 100, 145, 59, 123, 47, 181, 89),
            *(162, 62, 158, 11, 87, 186, 125, 184, 161, 48, 8, 154, 78, 29, 157, 120, 192, 104, 102, 66, 101, 195),
        ],
    ),
]


@pytest.mark.parametrize(("case", "expected"), CLEANLAB)
def test_issues_are_those_of_cleanlab(case, expected):
    """With up to five classes, the images and their order are the same as in cleanlab."""
    table, _ = make_noisy(*case)
    assert find_label_issues(table).tolist() == expected


def test_five_of_ten_classes_are_enough():
    """With ten classes and five probabilities per image, the result is nearly the same as cleanlab's."""
    table, _ = make_noisy(300, 10, 3, 0.1, 1.5)
    cleanlab = {
        *(2, 7, 12, 15, 18, 20, 22, 24, 29, 32, 33, 43, 47, 52, 57, 62, 66, 69, 71, 72, 75, 76, 78, 79, 80, 82, 84, 90),
        *(99, 100, 108, 124, 126, 134, 141, 142, 144, 154, 156, 159, 160, 165, 168, 176, 182, 186, 193, 194, 198, 202),
        *(208, 211, 213, 216, 218, 220, 222, 223, 226, 232, 234, 240, 250, 253, 255, 258, 261, 266, 267, 268, 272, 274),
        *(275, 285, 290, 296),
    }
    found = set(find_label_issues(table).tolist())
    assert len(found & cleanlab) / len(found | cleanlab) > 0.95
    # These predictions are worse than those of most networks. Here, those of correct labels are clear.
    clear, _ = make_noisy(300, 10, 3, 0.1, 0.4)
    cleanlab = {12, 22, 24, 29, 71, 72, 78, 80, 126, 134, 141, 142, 156, 160, 168, 175, 194, 198, 222, 258, 268, 290}
    found = set(find_label_issues(clear).tolist())
    assert len(found & cleanlab) / len(found | cleanlab) > 0.95


def test_known_wrong_labels_are_found_in_order():
    """Of eight images, the two that are confidently predicted as another class are issues. An uncertain one is not."""
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    probability = np.array([0.9, 0.95, 0.9, 0.02, 0.1, 0.05, 0.45, 0.99])  # of class 0
    table = make_table(labels, np.stack([probability, 1 - probability], axis=1))
    assert find_label_issues(table).tolist() == [7, 3]
    assert label_probabilities(table) == pytest.approx([0.9, 0.95, 0.9, 0.02, 0.9, 0.95, 0.55, 0.01])
    assert score_labels(table)[[7, 3, 6]] == pytest.approx([-0.98, -0.96, 0.1])


def test_perfect_predictions_have_no_issues():
    """If every label is the most probable class, there are no issues, not even in a class with a single image."""
    probabilities = np.array([[0.9, 0.1, 0.0], [0.8, 0.2, 0.0], [0.3, 0.7, 0.0], [0.1, 0.2, 0.7]]) * 0.97 + 0.01
    assert find_label_issues(make_table(np.array([0, 0, 1, 2]), probabilities)).tolist() == []


def test_table_is_a_fix_list(tmp_path):
    """`kedro data-fix` can read the table, in which each row suggests a class for an image and gives the reason."""
    table, _ = make_noisy(60, 3, 0, 0.15, 1.2)
    names = ClassNames(
        synsets=("n0", "n1", "n2"), names=("cat", "dog, wild", "owl"), labels=("cat", "dog, wild", "owl")
    )
    issues = tabulate_label_issues({"val": table}, names)
    (tmp_path / "label_issues.csv").write_text(issues.to_csv(index=False))
    fixes = read_fixes(tmp_path / "label_issues.csv")
    first, suggested = fixes[0], int(table.predicted[57])
    assert [fix.path for fix in fixes] == [f"val/{row}.JPEG" for row in CLEANLAB[0][1]]
    assert (first.action, first.label) == ("relabel", str(suggested))
    assert first.reason == (
        f"confident learning: {names.labels[table.labels[57]]} {np.exp(-table.losses[57]):.1%}, "
        f"{names.labels[suggested]} {table.top_probabilities[57, 0]:.1%}"
    )
    assert isinstance(first, Fix)
    assert {fix.split for fix in fixes} == {"val"}
    tabulate_label_issues({"": table}, names).to_csv(tmp_path / "listed.csv", index=False)
    assert {fix.split for fix in read_fixes(tmp_path / "listed.csv")} == {None}


def test_lists_are_ranked_together():
    """A single table contains the issues of several lists with their splits, most suspicious first."""
    table, _ = make_noisy(60, 3, 0, 0.15, 1.2)
    other, _ = make_noisy(40, 2, 2, 0.2, 1.0)
    names = ClassNames(synsets=("", "", ""), names=("a", "b", "c"), labels=("a", "b", "c"))
    issues = tabulate_label_issues({"val": table, "train": other}, names)
    gaps = (issues["label_probability"] - issues["suggested_probability"]).tolist()
    assert gaps == sorted(gaps)
    assert issues["split"].value_counts().to_dict() == {"val": 7, "train": 9}
    assert tabulate_label_issues({"val": make_table(np.array([0, 1]), np.eye(2) * 0.98 + 0.01)}, names).empty


def test_out_of_fold_predictions_follow_the_train_list():
    """Val images and dropped images are omitted, and a new label replaces the old one together with its probability."""
    probabilities = np.array([[0.7, 0.1, 0.1, 0.05, 0.03, 0.02]] * 5)
    table = make_table(np.array([0, 1, 0, 0, 2]), probabilities)
    # Image 0 is unchanged, 1 and 3 have new labels, 2 was dropped, and 4 is a val image.
    train = parse_list(b"val/3.JPEG 5\nval/1.JPEG 3\nval/0.JPEG 0\nval/9.JPEG 0\n", 6)
    selected = select_train_images(table, train)
    assert selected.paths.tolist() == ["val/0.JPEG", "val/1.JPEG"]
    assert selected.labels.tolist() == [0, 3]
    assert label_probabilities(selected) == pytest.approx([0.7, 0.05])
    assert selected.top_ids.shape == selected.top_probabilities.shape == (2, 5)
    with pytest.raises(EvaluationTableError, match=r"none of the 5 images, such as val/0\.JPEG, is in other"):
        select_train_images(table, parse_list(b"a.JPEG 0\n", 6, source="other"))


def test_class_names_stay_texts(tmp_path):
    """Class names that look like numbers or missing values are read as they were written."""
    table, _ = make_noisy(60, 3, 0, 0.15, 1.2)
    labels = ("None", "NA", "001")
    issues = tabulate_label_issues({"val": table}, ClassNames(synsets=("", "", ""), names=labels, labels=labels))
    (tmp_path / "label_issues.csv").write_text(issues.to_csv(index=False))
    read = read_label_issues(tmp_path / "label_issues.csv")
    pd.testing.assert_frame_equal(read, issues, check_dtype=False)
    assert set(read["given_class"]) | set(read["suggested_class"]) == set(labels)


def make_names(*names: str) -> ClassNames:
    return ClassNames(synsets=names, names=names, labels=names)


def test_other_files_are_rejected(tmp_path):
    """If the parameter refers to a different kind of file, the error names the command that writes the table."""
    (tmp_path / "list.txt").write_text("a 0\n")
    with pytest.raises(EvaluationTableError, match=r"out_of_fold_predictions: .*list\.txt .*kedro folds"):
        read_out_of_fold_predictions(tmp_path / "list.txt", make_names("a", "b"))


def test_predictions_of_other_labels_are_rejected(tmp_path):
    """If a new class has changed the labels since `kedro folds`, the predictions are rejected."""
    classes = [{"id": label, "synset": name, "name": name} for label, name in enumerate("acd")]
    for number in (1, 2):
        folder = tmp_path / f"fold-{number}"
        predictions = pd.DataFrame({"path": [f"{number}.png"], "label": 0, "loss": 0.5})
        predictions["top5_ids"], predictions["top5_probabilities"] = [[0, 1, 2]], [[0.6, 0.3, 0.1]]
        predictions_path_of(folder).parent.mkdir(parents=True)
        label_map_path_of(folder).parent.mkdir(parents=True)
        predictions.to_parquet(predictions_path_of(folder))
        label_map_path_of(folder).write_text(json.dumps({"class_num": 3, "classes": classes}))
    table, _ = write_out_of_fold_predictions(tmp_path, [tmp_path / "fold-1", tmp_path / "fold-2"])
    assert read_out_of_fold_predictions(table, make_names(*"acd")).paths.tolist() == ["1.png", "2.png"]
    with pytest.raises(EvaluationTableError, match="the label of c is 1 there, but 2 now"):
        read_out_of_fold_predictions(table, make_names(*"abcd"))


def test_report_shows_suspicious_images(tmp_path):
    """The report shows the current and the suggested class for each issue, and train images with low margins."""
    evaluation = make_evaluation(class_num=10, images_per_class=20, skill=2)
    paths = evaluation.predictions["path"].tolist()
    write_digits(tmp_path, paths)
    margins = pd.DataFrame(
        {"path": paths[:4], "label": [0, 1, 2, 3], "margin": [0.5, -1.25, np.nan, 4.0], "passes": [3, 3, 0, 3]}
    )
    page = Page(render_page(tmp_path, evaluation, margins=margins))
    labels = page.sections["labels"]
    assert "1 of 3 training images has a negative margin" in labels
    assert labels.index("margin -1.25") < labels.index("margin +0.50") < labels.index("margin +4.00")
    assert labels.count(" → ") == min(24, labels.count("instead of"))
    shown = [image for image in page.of("img") if image["alt"] in paths]
    assert len(shown) >= 3
    assert all(image["src"].startswith("data:image/webp;base64,") and len(image["src"]) > 100 for image in shown)
    assert labels.index(REVIEW.review) < labels.index(REVIEW.fix)


def test_sentence_counts_the_issues_of_each_list(tmp_path):
    """The report says how many images of each list have issues, or that there are none."""
    table, _ = make_noisy(60, 3, 0, 0.15, 1.2)
    names = ClassNames(synsets=("", "", ""), names=("a", "b", "c"), labels=("a", "b", "c"))
    issues = tabulate_label_issues({"val": table, "train": table}, names)
    splits = ["val", "train"]
    assert describe_label_issues(issues, splits, tmp_path).sentence == (
        "According to confident learning, 7 of the val images and 7 of the train images probably have wrong labels."
    )
    one = describe_label_issues(issues.head(1), splits, tmp_path)
    assert one.sentence.endswith("1 of the val images probably has a wrong label.")
    assert [(image.image, image.given != image.suggested) for image in one.images] == [("", True)]
    listed = describe_label_issues(tabulate_label_issues({"": table}, names), [""], tmp_path)
    assert "7 of the listed images probably have" in listed.sentence
    none = describe_label_issues(issues.head(0), ["val"], tmp_path)
    assert none.sentence == "Confident learning found no wrong labels among the val images."
    assert none.images == ()
