"""The pictures of the Data Docs: every image counted once, readable at 10 and at 1000 classes, and valid SVG."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from resnet50_pipeline.expectations.distributions import as_json, compute_distributions
from resnet50_pipeline.expectations.pictures import draw_pictures


def make_manifest(counts: list[int], **columns: object) -> pd.DataFrame:
    """Return a manifest of as many train images of each class, and of one val image of each."""
    labels = np.concatenate([np.repeat(np.arange(len(counts)), counts), np.arange(len(counts))])
    return pd.DataFrame(
        {
            "split": ["train"] * sum(counts) + ["val"] * len(counts),
            "synset": [f"n{label:08d}" for label in labels],
            "label": pd.array(labels, dtype="Int64"),
            "width": 400,
            "height": 300,
            "bytes": 1000,
            "status": "ok",
            **columns,
        }
    )


def draw(manifest: pd.DataFrame) -> dict[str, tuple[ElementTree.Element, str]]:
    """Return element and caption of each picture, by title."""
    pictures = draw_pictures(compute_distributions(manifest))
    return {one.title: (ElementTree.fromstring(one.svg), one.caption) for one in pictures}


def titles(picture: ElementTree.Element) -> list[str]:
    """Return the tooltips of a picture."""
    return [str(one.text) for one in picture.iter("title")]


def test_few_classes_are_bars_with_their_names() -> None:
    """Ten classes are ten bars, in the order of labels, whose tooltips say synset and images."""
    picture, caption = draw(make_manifest([5, 9, 7] + [6] * 7))["Class balance of train/"]
    assert titles(picture)[:3] == ["n00000000: 5 images", "n00000001: 9 images", "n00000002: 7 images"]
    heights = [float(one.attrib["height"]) for one in picture.iter("rect")]
    assert heights[1] / heights[0] == pytest.approx(9 / 5, rel=0.01)
    assert caption.startswith("10 classes of 5 to 9 images, median 6 (dashed). Fewest: n00000000 5, ")


def test_a_thousand_classes_are_one_falling_outline() -> None:
    """A thousand classes are one path that falls from left to right, and a page that stays small."""
    counts = [1 + number % 97 for number in range(1000)]
    picture, caption = draw(make_manifest(counts))["Class balance of train/"]
    assert not list(picture.iter("rect"))
    (path,) = picture.iter("path")
    heights = [float(value) for value in re.findall(r"V([\d.]+)H", path.attrib["d"])]
    assert len(heights) == 1000
    assert heights == sorted(heights)
    assert len(path.attrib["d"]) < 20_000
    assert "Fewest: n00000970 1, n00000873 1, n00000776 1; most: n00000096 97, " in caption


def test_classes_of_one_size_are_said_once() -> None:
    """Where all classes have as many images, the caption says no more than that."""
    assert draw(make_manifest([4, 4, 4]))["Class balance of train/"][1] == "3 classes of 4 images each."


def test_every_image_is_in_one_bin_of_each_picture() -> None:
    """Sizes below the first and above the last bin are counted in the outermost."""
    manifest = make_manifest([4, 4], width=[1, 8, 500, 501, 500, 375, 10**6, 64, 33, 2], height=375)
    pictures = draw(manifest)
    for title in ("Width and height", "Shorter side"):
        counted = [int(text.split(": ")[1].split(" ")[0]) for text in titles(pictures[title][0])]
        assert sum(counted) == 10
    assert "Width 1 / " in pictures["Width and height"][1]


def test_what_was_not_read_is_not_drawn() -> None:
    """After a scan of folders only, there are no pictures of pixels; of an empty manifest there is none at all."""
    assert draw(make_manifest([4, 4], width=0, height=0)).keys() == {
        "Class balance of train/",
        "Class balance of val/",
        "File size",
    }
    assert draw(make_manifest([4, 4]).head(0)) == {}


def test_names_are_text_and_not_markup() -> None:
    """A class folder whose name is markup stands in the picture as its name."""
    picture, _ = draw(make_manifest([4, 4], synset="<b>&"))["Class balance of train/"]
    assert titles(picture)[0] == "<b>&: 4 images"


def test_the_report_has_the_numbers_behind_the_pictures() -> None:
    """Quantiles of sizes and the images of each label are in the report."""
    numbers = as_json(compute_distributions(make_manifest([2, 4])))
    assert numbers["images_per_class"]["train"] == {
        "min": 2.0,
        "p05": pytest.approx(2.1),
        "median": 3.0,
        "p95": pytest.approx(3.9),
        "max": 4.0,
        "by_label": {"0": 2, "1": 4},
    }
    assert numbers["sizes"]["short_side"]["median"] == 300
