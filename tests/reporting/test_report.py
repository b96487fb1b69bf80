"""The report from `reporting.report` is complete and self-contained, and shows names as plain text."""

from __future__ import annotations

import base64
import re
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from evaluation_tables import make_evaluation, predictions_from_scores, write_digits
from report_pages import RECIPE, Page, draw_plots, render_page, report_inputs

from resnet50_pipeline.exceptions import EvaluationTableError
from resnet50_pipeline.imagenet.shards.shard_set import Fidelity
from resnet50_pipeline.reporting.metrics import confident_mistakes, confused_pairs
from resnet50_pipeline.reporting.model_card import render_model_card
from resnet50_pipeline.reporting.report import render_report

PACKED = {
    "packed_pixels": "jpeg-256, quality 90, bilinear, OpenCV 4.6.0",
    "packed_fidelity": str(Fidelity(images=256, identical=0, mean_psnr_db=37.9, lowest_psnr_db=31.4)),
}
SECTIONS = [
    "title",
    "header",
    "training",
    "confusion",
    "classes",
    "calibration",
    "mistakes",
    "data",
    "recipe",
    "provenance",
]


@pytest.fixture(scope="module")
def evaluation():
    """An evaluation of ten classes with 20 images each."""
    return make_evaluation(class_num=10, images_per_class=20, skill=2)


@pytest.fixture(scope="module")
def plots_dir(evaluation, tmp_path_factory) -> Path:
    """The figures for the evaluation, which other reports reuse."""
    return draw_plots(tmp_path_factory.mktemp("plots"), evaluation)


@pytest.fixture(scope="module")
def html(evaluation, plots_dir, tmp_path_factory) -> str:
    """The report on the evaluation, with real images."""
    root = tmp_path_factory.mktemp("digits")
    write_digits(root, evaluation.predictions["path"].tolist())
    return render_page(root, evaluation, plots_dir)


@pytest.fixture(scope="module")
def page(html) -> Page:
    """The parsed report."""
    return Page(html)


def _data_of(uri: str) -> bytes:
    assert uri.startswith(("data:image/png;base64,", "data:image/jpeg;base64,")), uri[:60]
    return base64.b64decode(uri.partition(",")[2], validate=True)


def test_sections_are_in_order_and_linked(page):
    """The page contains each section once, and the navigation links to all of them."""
    assert list(page.sections) == SECTIONS
    assert [link["href"] for link in page.of("a")] == [f"#{name}" for name in SECTIONS[2:]]


def test_the_header_has_accuracy_and_throughput(page, evaluation):
    """The header shows top-1, top-5, images, classes, throughput and the number of misclassified images."""
    hits = sum(row.label == row.top5_ids[0] for row in evaluation.predictions.itertuples())
    header = page.sections["header"]

    assert "ResNet50 on 200 images from 10 classes" in header
    assert f"top-1 accuracy {hits / 2:.2f}%" in header
    assert f"{200 - hits} of 200 images" in header
    for words in ("top-5 accuracy", "images/s 16 18.2 without data loading", "Checkpoint best ", "epoch 5, step 235"):
        assert words in header
    assert re.fullmatch(r"ResNet50: top-1 \d+\.\d% on 200 images", page.sections["title"])


def test_the_page_loads_nothing_from_the_network(page, html):
    """The page contains no URLs or scripts, all images are data URIs, and a policy forbids requests."""
    for tag, attributes in page.tags:
        assert tag not in {"script", "iframe", "object", "embed", "base", "form"}
        for name, value in attributes.items():
            assert not name.startswith("on"), f"{tag} {name}={value}"
            if name in {"src", "srcset", "href", "action", "poster", "data"}:
                assert value.startswith(("data:", "#")), f"{tag} {name}={value[:60]}"
    assert not re.search(r"https?:|url\(|@import|//[a-z]", re.sub(r"base64,[A-Za-z0-9+/=]+", "", html))
    policies = [meta["content"] for meta in page.of("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert policies == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]


def test_all_images_of_the_page_can_be_decoded(page):
    """Four figures, each in a light and a dark version, and six thumbnails can be decoded and have alt text."""
    light, dark = page.of("img"), page.of("source")

    assert len(light) == 4 + 6
    assert len(dark) == 4
    assert all(source["media"] == "(prefers-color-scheme: dark)" for source in dark)
    assert all(image["alt"] for image in light)
    for uri in [*(image["src"] for image in light), *(source["srcset"] for source in dark)]:
        assert cv2.imdecode(np.frombuffer(_data_of(uri), np.uint8), cv2.IMREAD_COLOR) is not None


def test_figures_have_a_size(page):
    """The width and height attributes of a figure give its size at 96 pixels per inch instead of 150."""
    for image in page.of("img")[:3]:
        pixels = cv2.imdecode(np.frombuffer(_data_of(image["src"]), np.uint8), cv2.IMREAD_COLOR)
        assert (int(image["width"]), int(image["height"])) == (
            round(pixels.shape[1] * 96 / 150), round(pixels.shape[0] * 96 / 150)
        )  # fmt: skip


def test_dark_pages_get_dark_figures(page):
    """The figure for dark pages is dark, and the figure for light pages is light."""
    figures = [image for image in page.of("img") if "width" in image]
    for image, source in zip(figures, page.of("source"), strict=True):
        light, dark = (
            cv2.imdecode(np.frombuffer(_data_of(uri), np.uint8), cv2.IMREAD_GRAYSCALE).mean()
            for uri in (image["src"], source["srcset"])
        )
        assert light > 170
        assert dark < 80


def test_tables_have_the_requested_rows(page, evaluation):
    """The tables show five pairs, five worst classes, ten classes, two splits and two expectations, with headers."""
    pairs = confused_pairs(evaluation.predictions, evaluation.label_map, 5)
    first = pairs.iloc[0]

    assert len(page.of("table")) == 6
    assert len(page.of("tr")) == 6 + 5 + 5 + 10 + 2 + 2
    assert f"{first.true_name} {first.predicted_name} {first.images}" in page.sections["confusion"]


def test_the_gallery_shows_confident_mistakes_with_both_names(page, evaluation):
    """Each image is shown with its predicted class, true class, probability and file name."""
    text = page.sections["mistakes"]
    for mistake in confident_mistakes(evaluation.predictions, evaluation.label_map, 6).to_dict("records"):
        text_of_mistake = f"✗ {mistake['predicted_name']} {mistake['probability']:.1%}"
        assert text_of_mistake in text
        assert f"✓ {mistake['true_name']}" in text
        assert mistake["path"].rpartition("/")[2] in text


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


def test_equal_inputs_give_equal_pages(evaluation, plots_dir, tmp_path):
    """The same inputs always produce the same report."""
    inputs = report_inputs(tmp_path, evaluation, plots_dir)

    assert render_report(inputs) == render_report(inputs)


HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "{{ 7 * 7 }}",
    "$\\frac{1}{$",
    "</style></title><h1>",
    "a & b",
]


def test_packed_images_are_mentioned(plots_dir, tmp_path):
    """The header, data section and model card mention packed images if and only if they were evaluated."""
    evaluation = make_evaluation(class_num=10, images_per_class=20, skill=2)
    for summary, is_packed in (({"packed_pixels": "", "packed_fidelity": ""}, False), (PACKED, True)):
        inputs = report_inputs(tmp_path, evaluation, plots_dir)
        inputs = replace(inputs, evaluation_summary={**evaluation.evaluation_summary, **summary})
        sections = Page(render_report(inputs)).sections
        assert ("evaluated on packed images" in sections["header"]) == is_packed
        assert ("(jpeg-256, quality 90, bilinear, OpenCV 4.6.0)" in sections["data"]) == is_packed
        assert ("37.9 dB" in sections["data"]) == is_packed
        assert ("37.9 dB" in render_model_card(inputs)) == is_packed


def test_early_stop_and_compensation_are_mentioned(evaluation, plots_dir, tmp_path):
    """The report and the model card mention early stopping, class weights and balanced sampling if they were used."""
    facts = {"planned_epochs": 90, "patience": 7, "class_weights": [0.25, 12.5], "balanced_images_per_epoch": 4321}
    for used in (False, True):
        summary = evaluation.training_summary | (facts if used else {})
        inputs = report_inputs(tmp_path, evaluation, plots_dir, training_summary=summary)
        sections, card = Page(render_report(inputs)).sections, render_model_card(inputs)
        assert ("before epoch 90, because 7 epochs" in sections["training"]) == used
        assert ("stopped early after 7 epochs" in card) == used
        for fact in ("0.25 to 12.5", "4,321"):
            assert (fact in sections["data"]) == used
            assert (fact in card) == used


def test_names_from_the_dataset_are_plain_text(plots_dir, tmp_path):
    """Class names, paths, problems, recipes and versions that look like HTML are shown as text."""
    evaluation = make_evaluation(class_num=6, images_per_class=4, names=HOSTILE, skill=0.5)
    paths = [f"val/<b>{row}.JPEG" for row in range(24)]
    evaluation.predictions["path"] = paths
    write_digits(tmp_path, paths)
    evaluation.validation_report["expectations"][1]["problems"] = ['<svg onload="alert(1)">']
    evaluation.training_summary["device"] = "<i>gpu"
    page = Page(
        render_page(tmp_path, evaluation, plots_dir, recipe="</code></pre><script>alert(2)</script>", gallery_images=24)
    )

    assert not {"script", "b", "i", "svg"} & {tag for tag, _ in page.tags}
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert all(image["src"].startswith("data:image/") for image in page.of("img"))
    assert len(page.of("h1")) == 1
    for name in HOSTILE:
        assert name in page.sections["classes"]
    assert "</code></pre><script>alert(2)</script>" in page.sections["recipe"]


def test_a_page_with_1000_classes_is_small(plots_dir, tmp_path):
    """A page with 1000 classes contains a collapsed row for each class and is smaller than 3 MB."""
    evaluation = make_evaluation(class_num=1000, images_per_class=2, skill=5)
    html = render_page(tmp_path, evaluation, plots_dir, worst_classes=20)
    page = Page(html)

    assert len(html) < 3_000_000
    assert len(page.of("tr")) == 6 + 20 + 20 + 1000 + 2 + 2
    assert "All 1,000 classes" in page.sections["classes"]
    assert not any("open" in details for details in page.of("details"))


def test_an_unreadable_image_is_replaced_by_its_error(evaluation, plots_dir, tmp_path, caplog):
    """Missing and damaged image files are replaced by error messages, and the other images are shown."""
    mistakes = confident_mistakes(evaluation.predictions, evaluation.label_map, 6)
    write_digits(tmp_path, mistakes["path"].tolist()[1:])
    (tmp_path / mistakes["path"][2]).write_bytes(b"<html>")

    page = Page(render_page(tmp_path, evaluation, plots_dir))

    assert len(page.of("img")) == 4 + 4
    assert page.sections["mistakes"].count("FileNotFoundError") == 1
    assert page.sections["mistakes"].count("ImageDecodeError") == 1
    assert len([record for record in caplog.records if record.name.endswith("reporting.gallery")]) == 2


def test_an_evaluation_without_mistakes(plots_dir, tmp_path):
    """Sections without confused pairs or a gallery contain a sentence instead."""
    evaluation = make_evaluation(class_num=10, images_per_class=3)
    labels = evaluation.predictions["label"].to_numpy()
    hits = predictions_from_scores(evaluation.predictions["path"].tolist(), labels, 9.0 * np.eye(10)[labels])

    page = Page(render_page(tmp_path, replace(evaluation, predictions=hits), plots_dir))

    header = page.sections["header"]
    assert "top-1 accuracy 100.00% 100.00% to 100.00%" in header
    assert "0 of 30 images" in header
    for section in ("confusion", "mistakes"):
        assert "All images were classified correctly." in page.sections[section]


def test_the_gallery_can_be_disabled(evaluation, plots_dir, tmp_path):
    """If `gallery_images` is 0, the page shows the name of the setting instead of a gallery."""
    page = Page(render_page(tmp_path, evaluation, plots_dir, gallery_images=0))

    assert "evaluation.gallery_images" in page.sections["mistakes"]
    assert len(page.of("img")) == 4


def test_classes_without_images_are_not_among_the_worst(evaluation, plots_dir, tmp_path):
    """A class without val images is listed with an accuracy of n/a instead of 0%."""
    kept = evaluation.predictions[evaluation.predictions["label"] != 4].reset_index(drop=True)
    summary = {**evaluation.evaluation_summary, "images": len(kept)}
    without_four = replace(evaluation, predictions=kept, evaluation_summary=summary)

    text = Page(render_page(tmp_path, without_four, plots_dir, worst_classes=10)).sections["classes"]

    worst, _, every = text.partition("All 10 classes")
    assert "four n00000004" not in worst
    assert "four n00000004 n/a n/a 0 of 0" in every


def test_a_missing_figure_is_an_error(evaluation, plots_dir, tmp_path):
    """If the dark version of a figure is missing, the error message includes the file name."""
    old = shutil.copytree(plots_dir, tmp_path / "old")
    (old / "dark" / "confusion.png").unlink()

    with pytest.raises(EvaluationTableError, match=r"dark/confusion\.png"):
        render_page(tmp_path, evaluation, old)


def test_observed_values_are_shortened(evaluation, plots_dir, tmp_path):
    """Mappings and long strings in the validation report are each shortened to one line."""
    expectation = evaluation.validation_report["expectations"][0]
    report = {
        **evaluation.validation_report,
        "expectations": [{**expectation, "observed": {"JPEG": 1200, "PNG": 1}}, {**expectation, "observed": "y" * 999}],
    }

    text = Page(render_page(tmp_path, evaluation, plots_dir, validation_report=report)).sections["data"]

    assert "JPEG: 1,200, PNG: 1" in text
    assert "y" * 300 + "…" in text
    assert "y" * 301 not in text
