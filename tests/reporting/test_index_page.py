"""The index page links all results of a run, and Chromium shows it at every width and in both color schemes."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from chromium import CHROMIUM, VIEWS, open_chromium
from resnet50_pipeline.reporting.run_pages.index_page import IndexInputs, render_index
from resnet50_pipeline.reporting.run_pages.results import Link, name_metrics, render_note

METRICS = {"top1": 0.9467, "top1_low": 0.9258, "top1_high": 0.962, "top5": 0.9983, "loss": 0.21, "images": 600.0}
CHECKS = [
    {"rule": "min_accuracy", "passed": True, "finding": "top-1 94.67% reaches gate.min_accuracy (50.00%)"},
    {"rule": "data_is_valid", "passed": False, "finding": "the validation has blocking findings: <b>"},
]
MODEL = {"name": "digits", "version": 3, "alias": "", "gate": {"passed": False, "checks": CHECKS}}
LINKS = [Link("report", "evaluation_report.html", "metrics"), Link("log", "../09_logs/a%20b.log")]


def make_page(**changes: object) -> str:
    inputs = {
        "name": "ResNet50 local learning_rate=0.01 2026-11-30 04:21",
        "metrics": METRICS,
        "model": MODEL,
        "links": LINKS,
        "facts": {"data": "sha256:" + 64 * "d"},
        "mlflow_command": "make ui",
        "written_at": datetime(2026, 11, 30, tzinfo=UTC),
    }
    return render_index(IndexInputs(**(inputs | changes)))


def test_the_note_in_mlflow_has_the_result_the_verdict_and_the_links():
    """The note is Markdown: the result with its interval, each check of the gate, and the links."""
    note = render_note(METRICS, MODEL, LINKS, "data/index.html")
    assert "top-1 94.67%, top-5 99.83% on 600 images (95% interval of top-1: 92.58% to 96.20%)" in note
    assert "**Gate: failed** (digits version 3)" in note
    assert [line[:3] for line in note.splitlines() if line.startswith("- ")] == ["- ✓", "- ✗"]
    assert "[report](evaluation_report.html) · [log](../09_logs/a%20b.log)" in note
    assert render_note(None, None, []) == ""


def test_each_metric_has_one_name_and_loss_and_top1_come_first():
    """Ends of intervals and speeds have separate prefixes. Counts are left out."""
    named = name_metrics(METRICS | {"images_per_second": 5.0, "seconds": 2.0, "classes": 10.0})
    assert sorted(named) == [
        *("evaluation/loss", "evaluation/top1", "evaluation/top5", "interval/top1_high", "interval/top1_low"),
        *("speed/evaluation_images_per_second", "speed/evaluation_seconds"),
    ]


def test_text_from_the_run_is_escaped():
    """A finding with HTML is shown as text."""
    assert "findings: &lt;b&gt;" in make_page()


def test_a_run_without_evaluation_has_an_index():
    """The page of a run that only validates has links, but no accuracy and no gate."""
    page = make_page(metrics=None, model=None, mlflow_command="")
    assert "evaluation_report.html" in page
    assert "top-1" not in page
    assert "Gate" not in page


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed; run: apt-get install chromium")
def test_the_page_has_no_errors_at_any_width(tmp_path):
    """Tiles, links and checks are visible, without errors, requests and sideways scrolling."""
    (tmp_path / "index.html").write_text(make_page(), encoding="utf-8")
    with open_chromium() as chromium:
        for width, scheme in VIEWS:
            view = chromium.show((tmp_path / "index.html").as_uri(), width=width, scheme=scheme)
            assert view.errors == view.outside == [], (width, scheme)
            assert view.count_visible(".links a") == len(LINKS)
            assert view.count_visible(".checks li") == len(CHECKS)
            assert view.count_visible(".tiles dd") >= 4
            assert not view.is_wider_than_window(), (width, scheme)
