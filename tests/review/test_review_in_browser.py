"""A review works with the keyboard alone, at any width, in light and dark mode, and continues after a reload."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from review_page import serve_review, write_findings

from chromium import CHROMIUM, VIEWS, Chromium, View, open_chromium
from resnet50_pipeline.imagenet.lists.fixes import read_fixes

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Chromium]:
    with open_chromium() as browser:
        yield browser


def press(view: View, *keys: str) -> None:
    """Press keys one after another, as on a keyboard."""
    for key in keys:
        text = {"text": key} if len(key) == 1 else {"text": "\r"} if key == "Enter" else {}
        view.chromium.call("Input.dispatchKeyEvent", type="keyDown", key=key, **text)
        view.chromium.call("Input.dispatchKeyEvent", type="keyUp", key=key)


def wait_for(view: View, expression: str) -> None:
    """Wait until a JavaScript expression is true."""
    end = time.monotonic() + 60
    while not view.evaluate(expression):
        assert time.monotonic() < end, expression
        time.sleep(0.05)


def current(view: View) -> int:
    """Return the 0-based number of the current image."""
    return int(view.evaluate("[...document.querySelectorAll('#grid button')].findIndex((one) => one.ariaCurrent)"))


def decided(view: View) -> str:
    return str(view.evaluate("document.getElementById('progress').textContent")).partition(" reviewed;")[0]


def test_a_review_with_the_keyboard_only(chromium: Chromium, digits: Path, tmp_path: Path):
    """Each key does what the page says, the file contains every decision, and a reload keeps the decisions."""
    names = write_findings(tmp_path / "findings.csv", digits, 9)
    output = tmp_path / "reviewed.csv"
    with serve_review(digits, tmp_path / "findings.csv", output) as server:
        view = chromium.show(server.url, width=1300)
        wait_for(view, "document.body.dataset.ready === 'true'")
        assert (current(view), decided(view)) == (0, "0 of 9")
        press(view, "k", "d", "r", "m")  # images 0 to 3
        assert current(view) == 4
        press(view, "c")
        press(view, "8", "Enter")  # image 4, by label
        press(view, "n", "p", "ArrowRight", "d", "u", "k")  # image 6: drop, undone, keep
        press(view, "End", "d")  # the last image; then the first undecided image, 5
        assert current(view) == 5
        wait_for(view, "!document.getElementById('progress').textContent.includes('saving')")
        assert decided(view) == "7 of 9"
        expected = {0: "keep", 1: "drop", 2: "relabel", 3: "move", 4: "relabel", 6: "keep", 8: "drop"}
        fixes = read_fixes(output)
        assert [(one.path, one.action) for one in fixes] == [(names[row], action) for row, action in expected.items()]
        assert [one.label for one in fixes if one.action == "relabel"] == ["1", "8"]
        view = chromium.show(server.url, width=1300)
        wait_for(view, "document.body.dataset.ready === 'true'")
        assert (current(view), decided(view)) == (5, "7 of 9")
        assert view.errors == view.outside == []


def test_an_unsaved_decision_is_reported_and_saved_later(chromium: Chromium, digits: Path, tmp_path: Path):
    """If the file cannot be written, the page says so and saves the decision together with the next one."""
    write_findings(tmp_path / "findings.csv", digits)
    output = tmp_path / "reviewed.csv"
    with serve_review(digits, tmp_path / "findings.csv", output) as server:
        view = chromium.show(server.url, width=1300)
        wait_for(view, "document.body.dataset.ready === 'true'")
        output.mkdir()
        press(view, "k")
        wait_for(view, "!document.getElementById('error').hidden")
        assert f"Not saved: {output}" in str(view.evaluate("document.getElementById('error').textContent"))
        output.rmdir()
        press(view, "d")
        wait_for(view, "document.getElementById('error').hidden")
        assert [one.action for one in read_fixes(output)] == ["keep", "drop"]


@pytest.mark.parametrize(("width", "scheme"), VIEWS)
def test_near_duplicates_are_side_by_side(
    chromium: Chromium, digits: Path, tmp_path: Path, width: int, scheme: str
) -> None:
    """Both images are visible next to each other, no text is cut off, and `r` relabels to the other image's class."""
    first, other = (min(digits.glob(f"train/{name}/*")) for name in ("n00000001", "n00000000"))
    path, other_path = (image.relative_to(digits).as_posix() for image in (first, other))
    text = f"looks like train_list.txt:1: {other_path} with label 0, but has label 1 (3 of 144 bits differ)"
    row = {"path": path, "text": text, "other_path": other_path}
    (tmp_path / "findings.jsonl").write_text(json.dumps(row) + "\n")
    with serve_review(digits, tmp_path / "findings.jsonl", tmp_path / "reviewed.csv") as server:
        view = chromium.show(server.url, width=width, scheme=scheme)  # type: ignore[arg-type]
        wait_for(view, "document.body.dataset.ready === 'true'")
        wait_for(view, "[...document.images].every((one) => one.naturalWidth > 0)")
        left, right = (f"document.getElementById('{name}').getBoundingClientRect()" for name in ("large", "other"))
        assert view.evaluate(f"{left}.right <= {right}.left && {left}.top === {right}.top")
        assert not view.is_wider_than_window()
        facts = "document.getElementById('facts')"
        assert view.evaluate(f"{facts}.scrollHeight <= {facts}.clientHeight + 1")
        press(view, "r")
        wait_for(view, "!document.getElementById('progress').textContent.includes('saving')")
        (fix,) = read_fixes(tmp_path / "reviewed.csv")
        assert (fix.path, fix.action, fix.label) == (path, "relabel", "0")


@pytest.mark.parametrize(("width", "scheme"), VIEWS)
def test_the_page_fits_every_window(chromium: Chromium, digits: Path, tmp_path: Path, width: int, scheme: str):
    """Nothing is cut off, the images and the current image are visible, and the colors follow the scheme."""
    write_findings(tmp_path / "findings.csv", digits)
    with serve_review(digits, tmp_path / "findings.csv", tmp_path / "reviewed.csv") as server:
        view = chromium.show(server.url, width=width, scheme=scheme)  # type: ignore[arg-type]
        wait_for(view, "document.body.dataset.ready === 'true'")
        wait_for(view, "[...document.images].every((one) => one.naturalWidth > 0)")
        assert not view.is_wider_than_window()
        assert view.count_visible("#grid img") == 6
        assert view.count_visible("#large, #classes, #reason, [data-action]") == 8
        dark = view.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(14, 18, 23)"
        assert dark is (scheme == "dark")
        assert view.errors == view.outside == []
