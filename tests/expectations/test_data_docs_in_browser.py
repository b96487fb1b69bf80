"""Chromium shows Data Docs without errors or requests, in both color schemes and in wide and narrow windows."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from chromium import CHROMIUM, VIEWS, Chromium, Scheme, open_chromium
from resnet50_pipeline.expectations.distributions import compute_distributions
from resnet50_pipeline.expectations.docs import write_data_docs
from resnet50_pipeline.expectations.report import build_report
from resnet50_pipeline.expectations.thumbnails import make_gallery
from resnet50_pipeline.expectations.validation import validate_manifest
from resnet50_pipeline.imagenet.archives.images import read_image
from resnet50_pipeline.imagenet.layout import find_layout, read_lists
from resnet50_pipeline.imagenet.scan.scan import scan_dataset

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed; run: apt-get install chromium"),
]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Chromium]:
    """A browser for all tests."""
    with open_chromium() as browser:
        yield browser


@pytest.fixture
def page(digits: Path, tmp_path: Path) -> str:
    """The address of Data Docs that show one error, one warning and ten classes."""
    damaged = min(digits.glob("val/n00000000/*"))
    damaged.write_bytes(damaged.read_bytes()[:100])
    (digits / "train" / "n00000000" / "unlisted.JPEG").write_bytes(min(digits.glob("val/n00000001/*")).read_bytes())
    lists = read_lists(find_layout(digits), class_num=10)
    manifest = scan_dataset(digits, {split: one.entries for split, one in lists.items()}, workers=1)
    validation = validate_manifest(manifest, 10, ("images_decode",))
    distributions = compute_distributions(manifest)
    read = partial(read_image, digits, {})
    gallery = make_gallery(manifest, distributions.class_counts, validation.findings, read)
    report = build_report(manifest, validation.findings, ["<2 pairs>; the full list is in near_duplicates.csv"])
    write_data_docs(tmp_path, validation, report, distributions, gallery)
    return (tmp_path / "index.html").as_uri()


def test_the_page_is_complete_in_every_view(chromium: Chromium, page: str) -> None:
    """In every view, the page shows its sections, figures and thumbnails, and does not scroll sideways."""
    for width, scheme in VIEWS:
        view = chromium.show(page, width=width, scheme=scheme)
        assert (view.errors, view.outside, view.requests) == ([], [], [page])
        assert view.count_visible("h1") == 1
        for section in ("errors", "warnings", "images-per-class", "sizes", "images", "passed"):
            assert view.count_visible(f"#{section}") == 1, (section, width, scheme)
        assert view.count_visible(".pictures img") == 5
        assert view.count_visible(".classes figure") == 10
        # 4 train and 2 val images per class. The damaged image is not shown, so its class has 1 val image.
        assert view.count_visible(".classes img") == 59
        assert view.count_visible(".problems img") >= 1
        outline = "getComputedStyle(document.querySelector('.problems img')).outlineStyle"
        assert view.evaluate(outline) == "solid"  # so that a blank image is visible
        assert view.count_visible(".notices a[href='near_duplicates.csv']") == 1
        assert view.evaluate("document.querySelector('.notices').innerText").startswith("<2 pairs>")
        # The results as Great Expectations renders them.
        view.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        assert view.count_visible(".raw .table") >= 5
        narrowest = "Math.min(...[...document.querySelectorAll('.problems div')].map(one => one.clientWidth))"
        assert view.evaluate(narrowest) > 150, (width, scheme)
        assert not view.is_wider_than_window(), (width, scheme)


@pytest.mark.parametrize(("scheme", "background"), [("light", "rgb(244, 246, 248)"), ("dark", "rgb(14, 18, 23)")])
def test_the_page_follows_the_color_scheme(chromium: Chromium, page: str, scheme: Scheme, background: str) -> None:
    """The page and its figures have the colors of the preferred scheme."""
    view = chromium.show(page, width=1300, scheme=scheme)
    assert view.evaluate("getComputedStyle(document.body).backgroundColor") == background
    shown = view.evaluate("document.querySelector('.pictures img').currentSrc")
    assert shown == view.evaluate(
        "document.querySelector('.pictures " + ("source').srcset" if scheme == "dark" else "img').src")
    )
