"""Chromium shows the report without errors, in light and dark mode, at three widths, and its controls work."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import browser
import cv2
import numpy as np
import pandas as pd
import pytest
from browser import CHROMIUM, README_SIZE, start_browser
from evaluation_tables import make_evaluation, make_monitored_history, write_digits
from report_pages import render_page

from resnet50_pipeline.figures import DARK, LIGHT
from resnet50_pipeline.reporting.comparison import compare_predictions
from resnet50_pipeline.reporting.curve_data import describe_curves

README_PICTURE = Path(__file__).parents[2] / "docs" / "images" / "report.png"
WIDTHS = (1440, 1300, 390)
# What a reader sees in each section.
VISIBLE = (
    *(
        ".tiles dd",
        "#curves svg path",
        "#compared-curves svg path",
        "#images .card img",
        "#matrix td button",
        "#pairs .bar span",
    ),
    *("#class-dots .dots-dot", "#class-table td", "#reliability .bin", "#recipe summary", "#provenance dd"),
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed; run: apt-get install chromium"),
]


@pytest.fixture(scope="module")
def evaluation():
    """An evaluation of ten classes with 20 images each, whose training was resumed once."""
    made = make_evaluation(class_num=10, images_per_class=20, skill=2)
    made.training_history.loc[len(made.training_history)] = pd.Series({"event": "resumed", "step": 94, "epoch": 3})
    return made


@pytest.fixture(scope="module")
def report(evaluation, tmp_path_factory):
    """The path to a report about digits, with a comparison with another model."""
    directory = tmp_path_factory.mktemp("report")
    write_digits(directory, evaluation.predictions["path"].tolist())
    rival = make_evaluation(class_num=10, images_per_class=20, skill=2, seed=1).predictions
    training = {"parameters": {"training": {"epochs": 9}}, "curves": describe_curves(evaluation.training_history)}
    comparison = {
        "rival": "version 3", **compare_predictions(evaluation.predictions, rival, 100), "training": training,
    }  # fmt: skip
    path = directory / "evaluation_report.html"
    html = render_page(directory, evaluation, gallery_images=200, comparison=comparison)
    path.write_text(html, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def chromium():
    """A running browser."""
    with start_browser() as started:
        yield started


@pytest.fixture
def page(chromium, report):
    """The report in a window of 1300 x 900 pixels."""
    chromium.open(report, width=1300)
    return chromium


def _count(pixels, color):
    wanted = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)])
    return int((np.abs(pixels.astype(int) - wanted) <= 3).all(axis=2).sum())


def _cards(page):
    return page.evaluate("[...document.querySelectorAll('#images .card')].map((card) => card.title)")


def _expected(evaluation, chosen):
    """Return the number of predictions for which `chosen(label, predicted, confidence)` is true."""
    rows = evaluation.predictions.itertuples()
    return sum(chosen(row.label, row.top5_ids[0], row.top5_probabilities[0]) for row in rows)


def _found(page):
    return int(page.evaluate("document.querySelector('#images .status span').textContent.split(' ')[0]"))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_complete_at_each_width(chromium, report, tmp_path, scheme, width):
    """The console is empty, nothing is requested, all parts are visible, nothing scrolls sideways, colors fit."""
    page_color = {"light": "#f4f6f8", "dark": "#0e1217"}
    other = {"light": DARK.contrast, "dark": LIGHT.contrast}[scheme]
    chromium.open(report, scheme=scheme, width=width)
    picture = tmp_path / "page.png"
    chromium.screenshot(picture, whole=True)
    pixels = cv2.imread(str(picture), cv2.IMREAD_COLOR)[:, :, ::-1]

    assert chromium.console == []
    assert chromium.requests == []
    for selector in VISIBLE:
        box = f"document.querySelector({json.dumps(selector)}).getBoundingClientRect()"
        assert chromium.evaluate(f"{box}.width > 0 && {box}.height >= 0"), selector
    assert chromium.evaluate("document.documentElement.scrollWidth") == width
    assert pixels.shape[1] == width
    assert _count(pixels, page_color[scheme]) > 50_000
    assert _count(pixels, other) < 500


def test_a_confusion_cell_shows_its_images(page, evaluation):
    """A click on a cell of the confusion matrix lists exactly its images. Enter opens one, Escape closes it."""
    page.click("#matrix td.miss button")
    label, predicted = page.evaluate(
        "[...document.querySelectorAll('#images select')].slice(1, 3).map((select) => Number(select.value))"
    )

    assert label != predicted
    assert _found(page) == _expected(evaluation, lambda true, found, _: (true, found) == (label, predicted))
    page.evaluate("document.querySelector('#images .card').focus()")
    page.press("Enter")
    page.wait_for("document.querySelector('#images dialog').open")
    assert page.evaluate("document.querySelectorAll('#images dialog .top-line').length") == 5
    page.press("Escape")
    page.wait_for("!document.querySelector('#images dialog').open")
    assert page.console == []


def test_a_class_and_a_bin_show_their_images(page, evaluation):
    """A click on a class lists its images, and a click on a bin those with its confidence."""
    page.click("#matrix tbody th button")
    assert _found(page) == _expected(evaluation, lambda true, *_: true == 0)

    page.evaluate("document.querySelectorAll('#reliability .bin')[3].dispatchEvent(new MouseEvent('click'))")
    low, high = page.evaluate(
        "[...document.querySelectorAll('#images input[type=number]')].map((input) => Number(input.value) / 100)"
    )
    assert high - low == pytest.approx(1 / 15, abs=1e-5)
    assert _found(page) == _expected(evaluation, lambda _, __, share: low < share <= high) > 0


def test_changed_sides_show_their_images(page, evaluation):
    """The count of images that only the other model classified correctly links to these images."""
    shown = int(page.evaluate("document.querySelector('[data-side=lost]').textContent"))
    page.click("[data-side=lost]")

    assert _found(page) == shown > 0


def test_text_and_order_apply_together(page, evaluation):
    """The text filter matches paths and class names, and the order applies to the images found."""
    page.evaluate(
        """(() => {
            const [outcome, , , order] = document.querySelectorAll('#images select');
            const text = document.querySelector('#images input[type=search]');
            outcome.value = 'all';
            text.value = 'n00000007_';
            text.dispatchEvent(new Event('input'));
            const sort = [...document.querySelectorAll('#images select')].at(-1);
            sort.value = 'path';
            sort.dispatchEvent(new Event('change'));
        })()"""
    )
    paths = evaluation.predictions.loc[evaluation.predictions["label"] == 7, "path"]

    assert _cards(page) == sorted(paths)


def test_keys_turn_the_pages(page):
    """The arrow keys move between the images, and to the next and the previous page at the ends."""
    first = _cards(page)
    page.evaluate("[...document.querySelectorAll('#images .card')].at(-1).focus()")
    page.press("ArrowRight")
    second = _cards(page)
    focused = page.evaluate("document.activeElement.title")
    page.press("ArrowLeft")

    assert len(first) == 24
    assert not set(first) & set(second)
    assert focused == second[0]
    assert _cards(page) == first


def _press_button(page, box, text):
    found = f"[...document.querySelectorAll('{box} button')].find((button) => button.textContent.startsWith('{text}'))"
    page.evaluate(f"{found}.click()")


def _ticks(page):
    texts = "document.querySelector('#curves svg').querySelectorAll('.x-tick')"
    return page.evaluate(f"[...{texts}].map((text) => text.textContent)")


def test_curves_show_values_and_zoom(page):
    """The curves show the values under the mouse, and zoom in by dragging. A dashed line marks each restart."""
    page.evaluate("document.querySelector('#curves svg').scrollIntoView({block: 'center'})")
    box = "document.querySelector('#curves svg').getBoundingClientRect()"
    left, top, width = page.evaluate(f"(({{x, y, width}}) => [x, y, width])({box})")
    page.move_mouse(left + width - 20, top + 100)
    tip = page.evaluate("document.querySelector('#curves .tip').textContent")

    assert "validation" in tip
    assert tip.startswith("step 23")
    before = _ticks(page)
    page.drag_mouse(left + width * 0.35, left + width * 0.65, top + 100)
    assert _ticks(page) != before
    assert page.evaluate("document.querySelectorAll('#curves .restart').length") == 4
    _press_button(page, "#curves", "Reset zoom")
    assert _ticks(page) == before
    assert page.console == []


def test_curves_change_axes_and_series(page):
    """The curves have an epoch axis and a logarithmic axis, and each series can be hidden."""
    lines = "document.querySelector('#curves svg').querySelectorAll('path.line').length"
    shown = page.evaluate(lines)
    _press_button(page, "#curves", "epochs")
    assert _ticks(page)[-1] == "5"
    page.click("#curves .legend button")
    assert page.evaluate(lines) == shown - 1
    path = "document.querySelector('#curves svg path.line').getAttribute('d')"
    linear = page.evaluate(path)
    page.click("#curves figcaption button")
    assert page.evaluate(path) != linear
    assert page.console == []


def test_the_curves_of_two_models_are_over_each_other(page):
    """A panel of the comparison has the series of both models in two colors, and clips them on its own."""
    panel = "document.querySelector('#compared-curves .panel svg')"
    colors = page.evaluate(f"[...{panel}.querySelectorAll('path.line')].map((one) => getComputedStyle(one).stroke)")
    clips = page.evaluate("[...document.querySelectorAll('clipPath')].map((one) => one.id)")

    assert len(colors) == 6
    assert colors[2] != colors[5]
    assert len(clips) == len(set(clips)) == 8
    assert page.console == []


def test_a_logarithmic_panel_without_points_is_empty(chromium, evaluation, tmp_path):
    """A logarithmic panel stays usable if all its series are hidden, or if it is zoomed to a range without points."""
    history = evaluation.training_history.copy()
    steps = (history["event"] == "train_step") & ((history["step"] < 60) | (history["step"] > 180))
    history.loc[history["event"] == "train_step", "learning_rate"] = np.nan
    history.loc[steps, "learning_rate"] = np.where(history.loc[steps, "step"] < 60, 0.1, 0.001)
    report = tmp_path / "evaluation_report.html"
    report.write_text(render_page(tmp_path, evaluation, training_history=history, gallery_images=0), encoding="utf-8")
    panel = "[...document.querySelectorAll('#curves .panel')].find((one) => one.textContent.startsWith('Learning'))"
    ticks = f"{panel}.querySelectorAll('text[text-anchor=end]:not(.x-tick)').length"
    chromium.open(report)
    assert chromium.evaluate(f"{panel}.querySelector('button').getAttribute('aria-pressed')") == "true"
    shown = chromium.evaluate(ticks)
    chromium.click("#curves .legend button")
    assert chromium.evaluate(f"{panel}.querySelectorAll('path.line').length") == 0
    chromium.click("#curves .legend button")
    assert chromium.evaluate(ticks) == shown > 1
    chromium.evaluate(f"{panel}.scrollIntoView({{block: 'center'}})")
    box = f"{panel}.querySelector('svg').getBoundingClientRect()"
    left, top, width = chromium.evaluate(f"(({{x, y, width}}) => [x, y, width])({box})")
    chromium.drag_mouse(left + width * 0.45, left + width * 0.65, top + 100)
    assert chromium.evaluate("document.querySelector('#curves .controls > button').hidden") is False
    assert chromium.console == []


def test_series_with_tones_have_their_own_legend(chromium, evaluation, tmp_path):
    """Stages have six colors. Their legend is in their panel, and hides them there; other legends do not list them."""
    history = make_monitored_history(epochs=2, steps_per_epoch=20)
    report = tmp_path / "evaluation_report.html"
    report.write_text(render_page(tmp_path, evaluation, training_history=history, gallery_images=0), encoding="utf-8")
    panel = "[...document.querySelectorAll('#curves .panel')].find((one) => one.textContent.startsWith('Update'))"
    colors = f"[...{panel}.querySelectorAll('path.line')].map((line) => getComputedStyle(line).stroke)"
    for width in (1300, 390):
        chromium.open(report, width=width)
        assert len(set(chromium.evaluate(colors))) == 6
        assert chromium.evaluate("document.documentElement.scrollWidth") <= width
    shared = "[...document.querySelectorAll('#curves .controls .legend button')].map((button) => button.textContent)"
    assert chromium.evaluate(shared) == ["training steps", "training epochs", "validation"]
    chromium.evaluate(f"{panel}.querySelector('.legend button').click()")
    assert len(chromium.evaluate(colors)) == 5
    assert chromium.console == []


def test_only_a_report_in_its_folder_links_to_the_index(chromium, report):
    """The link to the index page is visible in 08_reporting, and hidden in copies, which have no index page."""
    folder = report.parent / "08_reporting"
    folder.mkdir()
    for path, is_hidden in ((report, True), (Path(shutil.copy(report, folder)), False)):
        chromium.open(path)
        assert chromium.evaluate("document.querySelector('#index-link').checkVisibility()") is not is_hidden


def test_the_confusion_matrix_switches_to_shares(page):
    """The switch replaces the numbers of images with percentages of the class."""
    _press_button(page, "#matrix", "%")
    rows = page.evaluate(
        "[...document.querySelectorAll('#matrix tbody tr')].map((row) => "
        "[...row.querySelectorAll('td')].reduce((sum, cell) => sum + Number(cell.textContent), 0))"
    )

    assert rows == pytest.approx([100] * 10, abs=0.5)


def test_the_content_security_policy_blocks_requests_and_scripts(chromium, report, tmp_path):
    """The page's policy blocks a network image and a foreign script, and logs an error for each."""
    changed = tmp_path / "changed.html"
    html = report.read_text(encoding="utf-8")
    added = '<img src="http://127.0.0.1:9/x.png"><script>document.title = "foreign"</script></main>'
    changed.write_text(html.replace("</main>", added), encoding="utf-8")

    chromium.open(changed)

    assert len(chromium.console) == 2
    assert all("Content Security Policy" in line for line in chromium.console)
    assert chromium.evaluate("document.title") != "foreign"


def test_the_readme_shows_a_current_screenshot(evaluation, report, tmp_path):
    """The screenshot in the README has the same size and color distribution as a new one of a first run."""
    picture, first = tmp_path / "report.png", tmp_path / "evaluation_report.html"
    first.write_text(render_page(report.parent, evaluation, gallery_images=200), encoding="utf-8")
    subprocess.run([sys.executable, browser.__file__, first, picture], check=True, timeout=120)
    made, shown = (cv2.imread(str(path))[:, :, ::-1] for path in (picture, README_PICTURE))

    assert made.shape == shown.shape == (README_SIZE[1], README_SIZE[0], 3)
    for color in ("#f4f6f8", "#ffffff"):
        assert _count(shown, color) == pytest.approx(_count(made, color), rel=0.25)
    assert _count(shown, LIGHT.main) > 500
