"""The report in a real browser: no complaint on its console, light and dark, narrow and wide."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import browser
import cv2
import numpy as np
import pytest
from browser import CHROMIUM, README_SIZE, take_screenshot
from evaluation_tables import make_evaluation, write_digits
from report_pages import draw_plots, render_page

from resnet50_pipeline.reporting.style import DARK, LIGHT

README_PICTURE = Path(__file__).parents[2] / "docs" / "images" / "report.png"
BAR_COLORS = {"light": LIGHT.main, "dark": DARK.main}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: apt-get install chromium"),
]


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The report of the digits, as a file."""
    directory = tmp_path_factory.mktemp("report")
    evaluation = make_evaluation(class_num=10, images_per_class=20, skill=2)
    write_digits(directory, evaluation.predictions["path"].tolist())
    path = directory / "evaluation_report.html"
    path.write_text(render_page(directory, evaluation, draw_plots(directory / "plots", evaluation)), encoding="utf-8")
    return path


def _open(page, tmp_path, scheme="light", width=1200, height=4200):
    """Return what Chromium wrote to the page's console, and the screenshot's pixels (red, green, blue)."""
    screenshot = tmp_path / f"{page.stem}_{scheme}_{width}.png"
    console = take_screenshot(page, screenshot, scheme=scheme, width=width, height=height)
    return console, cv2.imread(str(screenshot), cv2.IMREAD_COLOR)[:, :, ::-1]


def _count(pixels, color):
    wanted = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)])
    return int((np.abs(pixels.astype(int) - wanted) <= 3).all(axis=2).sum())


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_browser_has_nothing_to_complain_about(report, tmp_path, scheme):
    """The console stays empty, and page and figures follow the scheme that the reader prefers."""
    page_color = {"light": "#f4f6f8", "dark": "#0e1217"}
    other = {"light": "dark", "dark": "light"}[scheme]

    console, pixels = _open(report, tmp_path, scheme)

    assert console == []
    assert pixels.shape == (4200, 1200, 3)
    assert _count(pixels, page_color[scheme]) > 100_000
    # The bars of the figures alone are this large; those of the tables are small.
    assert _count(pixels, BAR_COLORS[scheme]) > 50_000
    assert _count(pixels, BAR_COLORS[other]) < 500


def test_a_narrow_window_scrolls_figures_and_tables_and_not_the_page(report, tmp_path):
    """At 500 pixels nothing sticks out of its card: the margin right of the cards is the page's colour all the way."""
    console, pixels = _open(report, tmp_path, width=500)

    assert console == []
    assert _count(pixels[:, -12:], "#f4f6f8") == pixels[:, -12:, 0].size


def test_the_browser_would_have_complained(report, tmp_path):
    """If a picture were fetched from anywhere, the page's own policy would refuse it, on the console."""
    fetching = tmp_path / "fetching.html"
    html = report.read_text(encoding="utf-8")
    fetching.write_text(html.replace("</main>", '<img src="http://127.0.0.1:9/x.png"></main>'), encoding="utf-8")

    console, _ = _open(fetching, tmp_path)

    assert len(console) == 1
    assert "Content Security Policy" in console[0]


def test_the_readme_shows_a_page_that_looks_like_this_one(report, tmp_path):
    """`make screenshot`'s program opens a report; the README's picture has its size and colours, in their amounts."""
    picture = tmp_path / "report.png"
    subprocess.run([sys.executable, browser.__file__, report, picture], check=True, timeout=120)
    made, shown = (cv2.imread(str(path))[:, :, ::-1] for path in (picture, README_PICTURE))

    assert made.shape == shown.shape == (README_SIZE[1], README_SIZE[0], 3)
    for color in ("#f4f6f8", "#ffffff"):
        assert _count(shown, color) == pytest.approx(_count(made, color), rel=0.25)
    assert _count(shown, BAR_COLORS["light"]) > 1000
