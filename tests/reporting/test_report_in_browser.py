"""Chromium displays the report without errors, in light and dark mode and in narrow and wide windows."""

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

from resnet50_pipeline.figures import DARK, LIGHT

README_PICTURE = Path(__file__).parents[2] / "docs" / "images" / "report.png"
BAR_COLORS = {"light": LIGHT.main, "dark": DARK.main}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed; run: apt-get install chromium"),
]


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The path to a report about digits."""
    directory = tmp_path_factory.mktemp("report")
    evaluation = make_evaluation(class_num=10, images_per_class=20, skill=2)
    write_digits(directory, evaluation.predictions["path"].tolist())
    path = directory / "evaluation_report.html"
    path.write_text(render_page(directory, evaluation, draw_plots(directory / "plots", evaluation)), encoding="utf-8")
    return path


def _open(page, tmp_path, scheme="light", width=1200, height=4200):
    """Return the page's console lines and the screenshot's pixels (red, green, blue)."""
    screenshot = tmp_path / f"{page.stem}_{scheme}_{width}.png"
    console = take_screenshot(page, screenshot, scheme=scheme, width=width, height=height)
    return console, cv2.imread(str(screenshot), cv2.IMREAD_COLOR)[:, :, ::-1]


def _count(pixels, color):
    wanted = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)])
    return int((np.abs(pixels.astype(int) - wanted) <= 3).all(axis=2).sum())


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_has_no_errors_and_follows_the_color_scheme(report, tmp_path, scheme):
    """The console is empty, and the page and its figures use the preferred color scheme."""
    page_color = {"light": "#f4f6f8", "dark": "#0e1217"}
    other = {"light": "dark", "dark": "light"}[scheme]

    console, pixels = _open(report, tmp_path, scheme)

    assert console == []
    assert pixels.shape == (4200, 1200, 3)
    assert _count(pixels, page_color[scheme]) > 100_000
    # Only the bars in the figures are this large.
    assert _count(pixels, BAR_COLORS[scheme]) > 50_000
    assert _count(pixels, BAR_COLORS[other]) < 500


def test_a_narrow_window_does_not_scroll_the_page_sideways(report, tmp_path):
    """At a width of 500 pixels, no figure or table extends into the right margin of the page."""
    console, pixels = _open(report, tmp_path, width=500)

    assert console == []
    assert _count(pixels[:, -12:], "#f4f6f8") == pixels[:, -12:, 0].size


def test_the_content_security_policy_blocks_requests(report, tmp_path):
    """The page's content security policy blocks a network image and logs an error to the console."""
    fetching = tmp_path / "fetching.html"
    html = report.read_text(encoding="utf-8")
    fetching.write_text(html.replace("</main>", '<img src="http://127.0.0.1:9/x.png"></main>'), encoding="utf-8")

    console, _ = _open(fetching, tmp_path)

    assert len(console) == 1
    assert "Content Security Policy" in console[0]


def test_the_readme_shows_a_current_screenshot(report, tmp_path):
    """The screenshot in the README has the same size and color distribution as a new one."""
    picture = tmp_path / "report.png"
    subprocess.run([sys.executable, browser.__file__, report, picture], check=True, timeout=120)
    made, shown = (cv2.imread(str(path))[:, :, ::-1] for path in (picture, README_PICTURE))

    assert made.shape == shown.shape == (README_SIZE[1], README_SIZE[0], 3)
    for color in ("#f4f6f8", "#ffffff"):
        assert _count(shown, color) == pytest.approx(_count(made, color), rel=0.25)
    assert _count(shown, BAR_COLORS["light"]) > 1000
