"""The report from `reporting.report` is complete and self-contained, and shows names as plain text."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace

import cv2
import numpy as np
import pytest
from evaluation_tables import make_evaluation, predictions_from_scores, write_digits
from report_pages import RECIPE, Page, read_data, render_page, report_inputs

from resnet50_pipeline.imagenet.shards.shard_set import Fidelity
from resnet50_pipeline.reporting.comparison import compare_predictions
from resnet50_pipeline.reporting.curve_data import describe_curves
from resnet50_pipeline.reporting.metrics import confused_pairs
from resnet50_pipeline.reporting.model_card import render_model_card
from resnet50_pipeline.reporting.recipe_difference import Difference, RecipeDifference
from resnet50_pipeline.reporting.report import render_report

PACKED = {
    "packed_pixels": "jpeg-256, quality 90, bilinear, OpenCV 4.6.0",
    "packed_fidelity": str(Fidelity(images=256, identical=0, mean_psnr_db=37.9, lowest_psnr_db=31.4)),
}
SECTIONS = [
    "title",
    "header",
    "training",
    "images",
    "labels",
    "confusion",
    "classes",
    "calibration",
    "data",
    "recipe",
    "provenance",
]


@pytest.fixture(scope="module")
def evaluation():
    """An evaluation of ten classes with 20 images each."""
    return make_evaluation(class_num=10, images_per_class=20, skill=2)


@pytest.fixture(scope="module")
def html(evaluation, tmp_path_factory) -> str:
    """The report on the evaluation, with real images."""
    root = tmp_path_factory.mktemp("digits")
    write_digits(root, evaluation.predictions["path"].tolist())
    return render_page(root, evaluation)


@pytest.fixture(scope="module")
def page(html) -> Page:
    """The parsed report."""
    return Page(html)


@pytest.fixture(scope="module")
def data(html) -> dict:
    """The data that the script of the report draws."""
    return read_data(html)


def test_sections_are_in_order_and_linked(page):
    """The page contains each section once, and the navigation links to all of them."""
    assert list(page.sections) == SECTIONS
    assert [link["href"] for link in page.of("a")] == [*(f"#{name}" for name in SECTIONS[2:]), "index.html"]


def test_the_header_has_accuracy(page, evaluation):
    """The header shows top-1, top-5, images, classes and the number of misclassified images, but not the speed."""
    hits = sum(row.label == row.top5_ids[0] for row in evaluation.predictions.itertuples())
    header = page.sections["header"]

    assert "ResNet50 on 200 images from 10 classes" in header
    assert f"top-1 accuracy {hits / 2:.2f}%" in header
    assert f"{200 - hits} of 200 images" in header
    for words in ("top-5 accuracy", "Checkpoint best ", "epoch 5, step 235"):
        assert words in header
    assert "images/s" not in header
    assert "16 images/s (18.2 without data loading)" in page.sections["provenance"]
    assert re.fullmatch(r"ResNet50: top-1 \d+\.\d% on 200 images", page.sections["title"])


def test_the_page_loads_nothing_from_the_network(page, html):
    """The page contains no URLs, its policy forbids requests, and only its own script may run."""
    for tag, attributes in page.tags:
        assert tag not in {"iframe", "object", "embed", "base", "form"}
        for name, value in attributes.items():
            assert not name.startswith("on"), f"{tag} {name}={value}"
            if name in {"src", "srcset", "href", "action", "poster", "data"}:
                assert value.startswith(("data:", "#")) or value == "index.html", f"{tag} {name}={value[:60]}"
    scripts = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    assert len(scripts) == 1
    assert re.findall(r"https?:[^\"]*", html) == ["http://www.w3.org/2000/svg"]
    assert not re.search(r"url\((?!#)|@import|\bfetch\(|XMLHttpRequest", html)
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    policies = [meta["content"] for meta in page.of("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert policies == [f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"]


def test_the_data_has_every_image(data, evaluation):
    """The data has the path, label, prediction and confidence of each image, and the requested thumbnails."""
    images, rows = data["images"], evaluation.predictions

    assert images["path"] == rows["path"].tolist()
    assert images["label"] == rows["label"].tolist()
    assert images["predicted"] == [ids[0] for ids in rows["top5_ids"]]
    assert images["probability"] == [round(shares[0] * 1e6) for shares in rows["top5_probabilities"]]
    assert len(images["thumbnails"]) == 60
    for row, thumbnail in images["thumbnails"].items():
        assert cv2.imdecode(np.frombuffer(base64.b64decode(thumbnail), np.uint8), cv2.IMREAD_COLOR).shape == (28, 28, 3)
        assert images["top"][row][0] == rows["top5_ids"][int(row)]


def test_the_data_agrees_with_the_metrics(data, evaluation):
    """The confusion matrix, the classes and the bins of the data count the same images as the metrics."""
    confusion, classes = data["confusion"], data["classes"]
    pairs = confused_pairs(evaluation.predictions, evaluation.label_map, 1).iloc[0]
    cells = dict(zip(zip(confusion[0], confusion[1], strict=True), confusion[2], strict=True))

    assert sum(confusion[2]) == sum(classes["images"]) == sum(one["images"] for one in data["reliability"]) == 200
    assert sum(images for (label, predicted), images in cells.items() if label == predicted) == sum(classes["correct"])
    assert cells[pairs["true_id"], pairs["predicted_id"]] == pairs["images"]
    assert sum(classes["correct"]) / 200 == data["metrics"]["top1"]


def test_the_page_says_which_images_have_thumbnails(evaluation, tmp_path):
    """The page names the number of thumbnails and the rule that chose them, or says that all images have one."""
    write_digits(tmp_path, evaluation.predictions["path"].tolist())
    for limit, words in ((50, "Thumbnails: 50 of 200 images"), (1000, "All 200 images"), (0, "Thumbnails: 0 of 200")):
        assert words in Page(render_page(tmp_path, evaluation, gallery_images=limit)).sections["images"]


def test_only_significantly_worse_classes_are_named(tmp_path):
    """A class is named as below average if its accuracy is much lower, but not if it is a little lower."""
    evaluation = make_evaluation(class_num=10, images_per_class=20, skill=2)
    labels = evaluation.predictions["label"].to_numpy()
    scores = 9.0 * np.eye(10)[labels]
    scores[:12] = np.roll(scores[:12], 1, axis=1)  # twelve mistakes in class zero
    scores[20] = np.roll(scores[20], 1)  # one mistake in class one
    predictions = predictions_from_scores(evaluation.predictions["path"].tolist(), labels, scores)

    text = Page(render_page(tmp_path, replace(evaluation, predictions=predictions))).sections["classes"]

    assert "1 of 10 classes is significantly below the accuracy over all images (93.5%): zero." in text


def test_the_largest_gap_ignores_bins_with_few_images(data, page):
    """The text names the largest gap of the bins with at least 30 images."""
    gaps = [abs(one["accuracy"] - one["confidence"]) for one in data["reliability"] if one["images"] >= 30]

    assert f"at least 30 images is {max(gaps):.1%}" in page.sections["calibration"]


def test_recipe_differences_are_listed(evaluation, tmp_path):
    """The page lists the parameters that differ from the recipe file, and otherwise names the file."""
    difference = RecipeDifference("recipes/fast-40.yml", (Difference("lr.learning_rate", 1.7, None),))
    changed = Page(render_page(tmp_path, evaluation, recipe_difference=difference)).sections["recipe"]
    same = replace(difference, differences=())
    unchanged = Page(render_page(tmp_path, evaluation, recipe_difference=same)).sections["recipe"]

    assert "Differences from recipes/fast-40.yml" in changed
    assert "lr.learning_rate 1.7 not set" in changed
    assert "The parameters are those of recipes/fast-40.yml" in unchanged


def test_the_page_has_data_recipe_and_provenance(page):
    """The page shows sizes, problems, the YAML file, the commit, the digest, versions and devices."""
    data, provenance = page.sections["data"], page.sections["provenance"]

    for words in (
        "train 600 10 20 527 KiB",
        "val 200 10 20",
        "unlisted images 2",
        "images_decode",
        "✓ yes",
        "formats JPEG: 799, PNG: 1",
    ):
        assert words in data
    for words in (
        "no, warning",
        "2 problems",
        "val/n00000000/x_1.JPEG is not in any list",
        "train_list.txt: removed a byte-order mark",
    ):
        assert words in data
    assert " ".join(RECIPE.split()) in page.sections["recipe"]
    for words in ("4f0c2a7d9b1e", "(with uncommitted changes)", "sha256:3f3f", "paddleclas 2.6.0", "cpu, 2 ranks"):
        assert words in provenance


def test_a_skipped_comparison_is_explained_without_backticks(evaluation, tmp_path):
    """The page says why there is no comparison, if there is a reason. The first run of a project has none."""
    for reason, is_shown in (("no file; run `kedro run`", True), ("", False)):
        html = render_page(tmp_path, evaluation, comparison={"rival": None, "reason": reason})
        assert ("Not compared with another model: no file; run kedro run<" in html) == is_shown


def test_equal_inputs_give_equal_pages(evaluation, tmp_path):
    """The same inputs always produce the same report."""
    inputs = report_inputs(tmp_path, evaluation)

    assert render_report(inputs) == render_report(inputs)


HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "{{ 7 * 7 }}",
    "$\\frac{1}{$",
    "</style></title><h1>",
    "a & b",
]


def test_packed_images_are_mentioned(tmp_path):
    """The header, data section and model card mention packed images if and only if they were evaluated."""
    evaluation = make_evaluation(class_num=10, images_per_class=20, skill=2)
    for summary, is_packed in (({"packed_pixels": "", "packed_fidelity": ""}, False), (PACKED, True)):
        inputs = report_inputs(tmp_path, evaluation)
        inputs = replace(inputs, evaluation_summary={**evaluation.evaluation_summary, **summary})
        sections = Page(render_report(inputs)).sections
        assert ("evaluated on packed images" in sections["header"]) == is_packed
        assert ("(jpeg-256, quality 90, bilinear, OpenCV 4.6.0)" in sections["data"]) == is_packed
        assert ("37.9 dB" in sections["data"]) == is_packed
        assert ("37.9 dB" in render_model_card(inputs)) == is_packed


def test_early_stop_and_compensation_are_mentioned(evaluation, tmp_path):
    """The report and the model card mention early stopping, class weights and balanced sampling if they were used."""
    facts = {"planned_epochs": 90, "patience": 7, "class_weights": [0.25, 12.5], "balanced_images_per_epoch": 4321}
    for used in (False, True):
        summary = evaluation.training_summary | (facts if used else {})
        inputs = report_inputs(tmp_path, evaluation, training_summary=summary)
        sections, card = Page(render_report(inputs)).sections, render_model_card(inputs)
        assert ("before epoch 90, because there was no improvement for 7 epochs" in sections["training"]) == used
        assert ("stopped early after 7 epochs" in card) == used
        for fact in ("0.25 to 12.5", "4,321"):
            assert (fact in sections["data"]) == used
            assert (fact in card) == used


def test_names_from_the_dataset_are_plain_text(tmp_path):
    """Class names, paths, problems, recipes and versions that look like HTML are shown as text."""
    evaluation = make_evaluation(class_num=6, images_per_class=4, names=HOSTILE, skill=0.5)
    paths = [f"val/<b>{row}.JPEG" for row in range(24)]
    evaluation.predictions["path"] = paths
    write_digits(tmp_path, paths)
    evaluation.validation_report["expectations"][1]["problems"] = ['<svg onload="alert(1)">']
    evaluation.training_summary["device"] = "<i>gpu"
    html = render_page(tmp_path, evaluation, recipe="</code></pre><script>alert(2)</script>", gallery_images=24)
    page = Page(html)

    assert not {"b", "i", "svg"} & {tag for tag, _ in page.tags}
    assert len(page.of("script")) == 2
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert len(page.of("h1")) == 1
    assert read_data(html)["classes"]["name"] == HOSTILE
    assert "</code></pre><script>alert(2)</script>" in page.sections["recipe"]


def test_a_page_with_1000_classes_is_small(tmp_path):
    """A page with 1000 classes and no thumbnails has the data of each class and is smaller than 500 kB."""
    html = render_page(tmp_path, make_evaluation(class_num=1000, images_per_class=2, skill=5), gallery_images=0)

    assert len(html) < 500_000
    assert len(read_data(html)["classes"]["name"]) == 1000
    assert "Table of all 1,000 classes" in Page(html).sections["classes"]


def test_an_evaluation_without_mistakes(tmp_path):
    """An evaluation without mistakes has a report."""
    evaluation = make_evaluation(class_num=10, images_per_class=3)
    labels = evaluation.predictions["label"].to_numpy()
    hits = predictions_from_scores(evaluation.predictions["path"].tolist(), labels, 9.0 * np.eye(10)[labels])

    page = Page(render_page(tmp_path, replace(evaluation, predictions=hits)))

    header = page.sections["header"]
    assert "top-1 accuracy 100.00% 100.00% to 100.00%" in header
    assert "0 of 30 images" in header
    assert "No class is significantly below" in page.sections["classes"]


def test_classes_without_images_are_counted(evaluation, tmp_path):
    """A class without val images has no accuracy, is not below average, and is counted."""
    kept = evaluation.predictions[evaluation.predictions["label"] != 4].reset_index(drop=True)
    summary = {**evaluation.evaluation_summary, "images": len(kept)}
    html = render_page(tmp_path, replace(evaluation, predictions=kept, evaluation_summary=summary))
    classes = read_data(html)["classes"]

    assert (classes["top1"][4], classes["below"][4]) == (None, 0)
    assert "1 class has no images" in Page(html).sections["classes"]


def test_changed_sides_are_in_the_data(evaluation, tmp_path):
    """An image that only one of two models classified correctly has the other model's class, and any other has -1."""
    rival = make_evaluation(class_num=10, images_per_class=20, skill=2, seed=1).predictions
    comparison = {"rival": "version 3", **compare_predictions(evaluation.predictions, rival, 100)}
    html = render_page(tmp_path, evaluation, comparison=comparison)
    images = read_data(html)["images"]

    for row, (label, predicted, other) in enumerate(
        zip(images["label"], images["predicted"], images["rival"], strict=True)
    ):
        (expected,) = rival.loc[rival["path"] == images["path"][row], "top5_ids"].str[0]
        assert other == (expected if (label == predicted) != (label == expected) else -1)
    assert "version 3" in Page(html).sections["comparison"]


def test_parameters_and_curves_of_the_rival(evaluation, tmp_path):
    """The comparison lists only the parameters that differ, and its data has the curves of both models."""
    compared = {"rival": "version 3", **compare_predictions(evaluation.predictions, evaluation.predictions, 100)}
    curves = describe_curves(evaluation.training_history)
    theirs = {"training": {"epochs": 5, "lr": {"learning_rate": 0.2}}}
    html = render_page(
        tmp_path, evaluation, comparison={**compared, "training": {"parameters": theirs, "curves": curves}}
    )
    text, data = Page(html).sections["comparison"], read_data(html)

    assert "parameter version 3 this model training.lr.learning_rate 0.2 0.1" in text
    assert "epochs" not in text
    assert data["curves"]["panels"] == curves["panels"]
    names = [one["name"] for one in data["comparedCurves"]["panels"][0]["series"]]
    assert names == [
        f"{model}: {name}"
        for model in ("version 3", "this model")
        for name in ("training steps", "training epochs", "validation")
    ]


@pytest.mark.parametrize("training", [None, {"parameters": {}, "curves": None}])
def test_a_rival_of_unknown_training(evaluation, tmp_path, training):
    """If the rival's parameters are unknown, the comparison says so and has no curves."""
    compared = {"rival": "version 3", **compare_predictions(evaluation.predictions, evaluation.predictions, 100)}
    html = render_page(tmp_path, evaluation, comparison={**compared, "training": training})
    text = Page(html).sections["comparison"]

    assert "The parameters of version 3 are unknown." in text
    assert "same parameters" not in text
    assert "compared-curves" not in html.partition("<script")[0]
    assert read_data(html)["comparedCurves"] is None


def test_observed_values_are_shortened(evaluation, tmp_path):
    """Mappings and long strings in the validation report are each shortened to one line."""
    expectation = evaluation.validation_report["expectations"][0]
    report = {
        **evaluation.validation_report,
        "expectations": [{**expectation, "observed": {"JPEG": 1200, "PNG": 1}}, {**expectation, "observed": "y" * 999}],
    }

    text = Page(render_page(tmp_path, evaluation, validation_report=report)).sections["data"]

    assert "JPEG: 1,200, PNG: 1" in text
    assert "y" * 300 + "…" in text
    assert "y" * 301 not in text
