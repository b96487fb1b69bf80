"""Comparisons, calibration, intervals, true labels and the model card agree with independent calculations."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from evaluation_tables import make_evaluation, predictions_from_scores
from report_pages import Page, render_page, report_inputs
from scipy.stats import binom
from sklearn.metrics import f1_score, precision_score

from resnet50_pipeline.exceptions import EvaluationTableError
from resnet50_pipeline.reporting.calibration import reliability_table
from resnet50_pipeline.reporting.classes import ClassNames
from resnet50_pipeline.reporting.comparison import compare_predictions, describe_comparison, describe_patches
from resnet50_pipeline.reporting.intervals import interval_of_class_mean, interval_of_difference, interval_of_share
from resnet50_pipeline.reporting.metrics import compute_metrics
from resnet50_pipeline.reporting.model_card import render_model_card
from resnet50_pipeline.reporting.provenance import describe_command
from resnet50_pipeline.reporting.true_labels import read_true_labels, true_label_metrics

RESAMPLES = 2000


@pytest.fixture(scope="module")
def evaluation():
    """Predictions for ten classes, with many mistakes."""
    return make_evaluation(class_num=10, images_per_class=30, skill=2)


def predict(labels, predicted) -> pd.DataFrame:
    """Return predictions for three classes with the given predicted classes."""
    scores = np.eye(3)[np.array(predicted)] * 3
    return predictions_from_scores([f"val/{row}.JPEG" for row in range(len(labels))], np.array(labels), scores)


def test_macro_averages_equal_scikit_learn(evaluation):
    """Macro-averaged precision and F1 match scikit-learn."""
    metrics = compute_metrics(evaluation.predictions, evaluation.evaluation_summary, RESAMPLES)
    labels = evaluation.predictions["label"]
    predicted = evaluation.predictions["top5_ids"].str[0]
    assert metrics["macro_precision"] == pytest.approx(
        precision_score(labels, predicted, average="macro", zero_division=0)
    )
    assert metrics["macro_f1"] == pytest.approx(f1_score(labels, predicted, average="macro", zero_division=0))


def test_the_interval_matches_resampled_images():
    """Binomial draws produce the same interval as resampling the images and as the distribution's percentiles."""
    hits = np.repeat([1.0, 0.0], [730, 270])
    draw = np.random.default_rng(5)
    by_image = [draw.choice(hits, len(hits)).mean() for _ in range(4000)]
    interval = interval_of_share(730, 1000, 4000)
    assert (interval.low, interval.high) == pytest.approx(tuple(np.quantile(by_image, [0.025, 0.975])), abs=0.003)
    assert interval.low == pytest.approx(binom.ppf(0.025, 1000, 0.73) / 1000, abs=0.003)


def test_the_interval_of_the_class_mean_resamples_within_classes():
    """If two of three classes have a fixed accuracy, the interval is a third as wide as for the third class alone."""
    interval = interval_of_class_mean(np.array([10, 0, 50]), np.array([10, 10, 100]), 4000)
    alone = interval_of_share(50, 100, 4000)
    assert interval.low == pytest.approx((1 + alone.low) / 3, abs=0.004)
    assert interval.high == pytest.approx((1 + alone.high) / 3, abs=0.004)


def test_confidence_and_accuracy_are_counted_by_bin(evaluation):
    """Each image is in the bin for its probability, and the expected calibration error is the weighted mean gap."""
    bins = reliability_table(evaluation.predictions)
    confidence = evaluation.predictions["top5_probabilities"].str[0].to_numpy()
    is_correct = (evaluation.predictions["top5_ids"].str[0] == evaluation.predictions["label"]).to_numpy()
    gaps = 0.0
    for row in bins.to_dict("records"):
        inside = (confidence > row["low"]) & (confidence <= row["high"])
        assert row["images"] == inside.sum()
        if inside.any():
            assert row["accuracy"] == pytest.approx(is_correct[inside].mean())
            gaps += abs(is_correct[inside].mean() - confidence[inside].mean()) * inside.sum() / len(inside)
    metrics = compute_metrics(evaluation.predictions, evaluation.evaluation_summary, RESAMPLES)
    assert metrics["ece"] == pytest.approx(gaps)


def test_two_models_are_compared_image_by_image():
    """The four counts, the difference and the p-value of McNemar's test match a manual calculation."""
    labels = [0] * 8 + [1] * 4
    better = predict(labels, [0] * 8 + [1] * 2 + [2] * 2)
    worse = predict(labels, [0] * 3 + [1] * 5 + [1] * 2 + [2] + [1]).sample(frac=1, random_state=0)
    compared = compare_predictions(better, worse, RESAMPLES)
    assert {key: compared["top1"][key] for key in ("only_this", "only_rival", "both", "neither")} == {
        "only_this": 5,
        "only_rival": 1,
        "both": 5,
        "neither": 1,
    }
    assert compared["top1"]["difference"] == pytest.approx(4 / 12)
    assert compared["top1"]["p_value"] == pytest.approx(2 * (binom.pmf(0, 6, 0.5) + binom.pmf(1, 6, 0.5)))
    assert compared["top5"]["difference"] == 0
    assert compared["classes"] == [
        {"id": 0, "images": 8, "difference": pytest.approx(5 / 8)},
        {"id": 1, "images": 4, "difference": pytest.approx(-1 / 4)},
    ]
    sentence = describe_comparison({"rival": "the other", **compared})
    assert sentence.startswith("33.33 percentage points better than the other ")
    assert "on the same 12 images, but this may be due to chance (95% confidence interval" in sentence
    certain = {**compared["top1"], "p_value": 0.01}
    assert "chance" not in describe_comparison({"rival": "the other", **compared, "top1": certain})


def test_a_model_equals_itself(evaluation):
    """If a model is compared with itself, the difference is 0, the interval is 0 to 0, and the p-value is 1."""
    compared = compare_predictions(evaluation.predictions, evaluation.predictions, RESAMPLES)
    top1 = compared["top1"]
    assert (top1["difference"], top1["low"], top1["high"], top1["p_value"]) == (0, 0, 0, 1.0)
    assert compared["classes"] == []


def test_the_interval_of_a_difference_resamples_pairs():
    """For a difference of 10 and 6 images, the interval is as wide as the multinomial distribution predicts."""
    interval = interval_of_difference(10, 6, 100, 20_000)
    spread = 1.96 * np.sqrt((0.16 - 0.04**2) / 100)
    assert (interval.low, interval.high) == pytest.approx((0.04 - spread, 0.04 + spread), abs=0.012)


@pytest.mark.parametrize(
    ("rival", "message"),
    [
        (predict([0], [0]), r"3 and 1, 1 "),
        (predict([0, 1, 2], [0, 1, 2]).assign(sha256=["x", "y", "z"]), r"3 and 3, 0 "),
        (predict([0, 2, 1], [0, 1, 2]), r"val/1\.JPEG: .*\b1\b.*\b2\b.*2 images"),
    ],
)
def test_other_images_and_labels_are_rejected(rival, message):
    """If most images or labels differ, the error contains the counts or labels."""
    with pytest.raises(EvaluationTableError, match=message):
        compare_predictions(predict([0, 1, 2], [0, 1, 2]).assign(sha256=["a", "b", "c"]), rival, RESAMPLES)


def test_a_patch_of_the_list_leaves_the_common_images():
    """Dropped, added and replaced images do not count, and a corrected label counts for both models."""
    before = predict([0, 0, 0, 1, 1, 1, 2], [0, 0, 0, 1, 1, 1, 2]).assign(sha256=list("abcdefg"))
    after = predict([0, 0, 0, 1, 1, 2, 2, 2], [0, 0, 1, 1, 1, 2, 0, 2]).assign(sha256=list("abcdefXh"))
    compared = compare_predictions(after, before, RESAMPLES)
    # Image 6 has another content, and image 7 is new.
    assert [compared[name] for name in ("images", "own_images", "rival_images", "relabeled")] == [6, 8, 7, 1]
    assert compared["is_same_content"]
    # Image 2 is lost. The rival's prediction for image 5 is wrong under the new label, so the image is gained.
    assert [compared["top1"][name] for name in ("only_this", "only_rival", "both", "neither")] == [1, 1, 4, 0]
    assert [one["path"] for one in compared["changed"]] == ["val/2.JPEG", "val/5.JPEG"]
    sentence = describe_comparison({"rival": "m version 3", **compared})
    assert sentence.startswith("as good as m version 3 on the same 6 images (95% confidence interval ")
    assert sentence.endswith(
        "McNemar p = 1; this evaluation has 8 images, the other 7; 1 image has a new label, for both models)"
    )
    without_digests = compare_predictions(after.drop(columns="sha256"), before, RESAMPLES)
    assert (without_digests["images"], without_digests["is_same_content"]) == (7, False)


PATCH = {
    "id": "0001-3fa9c1d2",
    "by": "Ada <ada@example.org>",
    "at": "2026-11-30T08:00:00Z",
    "reason": "checked by hand",
    "source": "findings.csv",
    "kept": 4,
    "rows": [
        {"path": "val/a.png", "action": "relabel", "split": "val", "label": 3, "new_label": 8, "reason": "<looks> 8"},
        {"path": "train/b.png", "action": "move", "split": "train", "label": 1, "new_label": None, "reason": ""},
        {"path": "train/c.png", "action": "drop", "split": "train", "label": 5, "new_label": None, "reason": "blank"},
    ],
}


@pytest.mark.parametrize(
    ("patches", "said"),
    [
        ([], "version 3 was trained without patches"),
        (["0001-3fa9c1d2"], "with the same patches, so they do not explain the difference"),
        (["0001-aaaaaaaa"], "was trained with 0001-aaaaaaaa"),
        (None, "It is unknown which patches"),
    ],
)
def test_the_report_shows_patches_and_their_effect(tmp_path, evaluation, patches, said):
    """The section shows who changed which images and why, and the change in accuracy with its interval."""
    compared = compare_predictions(evaluation.predictions, evaluation.predictions, 100)
    html = render_page(
        tmp_path,
        evaluation,
        validation_report={**evaluation.validation_report, "patches": [PATCH]},
        comparison={"rival": "version 3", "rival_version": 3, "rival_patches": patches, **compared},
    )
    section = Page(html).sections["patches"]
    for part in (
        "0001-3fa9c1d2 2026-11-30 08:00:00 UTC Ada <ada@example.org> checked by hand findings.csv 1 1 1 4",
        "val/a.png relabel three → eight <looks> 8",
        "train/b.png move train → val",
        "train/c.png drop five, train blank",
        "as good as version 3 on the same 300 images (95% confidence interval +0.00 to +0.00",
        said,
    ):
        assert part in section


def test_a_class_that_a_patch_removed_has_no_name():
    """If dataset.class_num comes from the lists, a removed last class is shown by its label instead of its name."""
    names = ClassNames(("n0", "n1"), ("zero", "one"), ("zero", "one"))
    drop = {"path": "val/a.png", "action": "drop", "split": "val", "label": 2, "new_label": None, "reason": ""}
    rows = [drop, {**drop, "action": "relabel", "new_label": 1}]
    shown = describe_patches([{**PATCH, "rows": rows}], {"rival": None, "reason": ""}, names)
    assert shown is not None
    assert [row["change"] for row in shown["rows"]] == ["class 2, val", "class 2 → one"]


def test_reports_without_patches_have_no_section(tmp_path, evaluation):
    """Without patches, there is no section. Without a comparison, the section says that the effect is unknown."""
    assert "patches" not in Page(render_page(tmp_path, evaluation)).sections
    html = render_page(tmp_path, evaluation, validation_report={**evaluation.validation_report, "patches": [PATCH]})
    assert "effect on accuracy is unknown: there is no earlier model" in Page(html).sections["patches"]


def test_any_true_label_counts_as_correct():
    """A list is indexed by the number in the file name, and images without labels are ignored."""
    predictions = predict([0, 0, 1, 2], [0, 1, 1, 0])
    predictions["path"] = [f"val/ILSVRC2012_val_{number:08d}.JPEG" for number in (1, 2, 3, 4)]
    metrics = true_label_metrics(predictions, [[0], [1, 2], [], [1]], 3, RESAMPLES)
    assert (metrics["real_top1"], metrics["real_images"], metrics["images_without_true_label"]) == (2 / 3, 3, 1)
    assert metrics["real_top5"] == 1.0
    assert metrics["real_top1_low"] < 2 / 3 < metrics["real_top1_high"]


def test_true_labels_may_be_given_by_path_or_name():
    """An object is keyed by path or file name, and the path takes precedence."""
    predictions = predict([0, 1], [0, 1])
    given = {"val/0.JPEG": [0], "0.JPEG": [2], "1.JPEG": [2]}
    assert true_label_metrics(predictions, given, 3, RESAMPLES)["real_top1"] == 0.5


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"0.JPEG": [0]}, "val/1.JPEG"),
        ({"0.JPEG": [3], "1.JPEG": [1]}, r"\b3\b.*0\.\.2"),
        ([[0], [1]], "val/0.JPEG"),
    ],
)
def test_true_labels_that_do_not_match_are_rejected(given, message):
    """A missing entry or an unknown class ID raises an error instead of counting as a wrong prediction."""
    with pytest.raises(EvaluationTableError, match=message):
        true_label_metrics(predict([0, 1], [0, 1]), given, 3, RESAMPLES)


def test_the_model_card_has_the_facts_of_the_report(evaluation, tmp_path):
    """The card shows results (with intervals), limitations, data and provenance in fewer than 5000 characters."""
    comparison = {
        "rival": "probe version 3",
        **compare_predictions(evaluation.predictions, evaluation.predictions, 100),
    }
    inputs = report_inputs(tmp_path, evaluation, comparison=comparison)
    card = render_model_card(inputs)
    top1, low, high = (inputs.metrics[f"top1{end}"] for end in ("", "_low", "_high"))
    for part in (
        "# ResNet50, 10 classes",
        f"| top-1 | {top1:.2%} | {low:.2%} to {high:.2%} |",
        "as good as probe version 3 on the same 300 images",
        "## Limits",
        "- failed: Every image in train/ and val/ is in a list. (2 problems)",
        f"- data digest: `{evaluation.validation_report['data_digest']}`",
        "- command: `kedro run --env imagenet`",
    ):
        assert part in card
    assert len(card) < 5000, "MLflow's limit for the description of a version"


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("[[1], [], [2, 3]]", [[1], [], [2, 3]]),
        ('{"val/a.JPEG": [1], "b.JPEG": []}', {"val/a.JPEG": [1], "b.JPEG": []}),
        ("[1, 2]", r"real\.json"),
        ('[["1"]]', "valid integer"),
        ('{"a.JPEG": 1}', "a.JPEG: Input should be a valid"),
        ('{"a.JPEG":', "Invalid JSON: EOF"),
        ("\xff", "Invalid JSON"),
    ],
)
def test_true_labels_have_one_of_two_formats(tmp_path, content, found):
    """A file is a list by image number or an object keyed by name. Other formats raise an error."""
    (tmp_path / "real.json").write_bytes(content.encode("latin-1"))
    if isinstance(found, str):
        with pytest.raises(EvaluationTableError, match=found):
            read_true_labels(tmp_path / "real.json")
    else:
        assert read_true_labels(tmp_path / "real.json") == found


def test_class_names_do_not_break_the_model_card(tmp_path):
    """A class name that contains bars and tags is shown as plain text in its table cell."""
    names = ["a|b", "<script>", *[f"class {number}" for number in range(8)]]
    card = render_model_card(report_inputs(tmp_path, make_evaluation(10, 5, names=names, skill=0.5)))
    assert "<script>" not in card
    assert all(line.count("|") - line.count("\\|") == 4 for line in card.splitlines() if line.startswith("|"))


def test_the_report_contains_no_passwords():
    """The command in the report contains no password but can otherwise be run again."""
    command = ["/somewhere/bin/kedro", "run", "--params", "tracking.uri=postgresql://ada:s3cret@db:5432/mlflow"]
    assert describe_command(command) == "kedro run --params tracking.uri=postgresql://ada:…@db:5432/mlflow"
