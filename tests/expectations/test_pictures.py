"""The figures in Data Docs count each image once, and are readable for 10 as well as 1000 classes."""

from __future__ import annotations

import base64
import itertools
from io import BytesIO

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle, StepPatch
from PIL import Image

from resnet50_pipeline.expectations import pictures
from resnet50_pipeline.expectations.distributions import Distributions, as_json, compute_distributions
from resnet50_pipeline.figures import DARK, LIGHT


def make_manifest(counts: list[int], **columns: object) -> pd.DataFrame:
    """Return a manifest with the given number of training images per class, and one val image per class."""
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


def distributions_of(counts: list[int], **columns: object) -> Distributions:
    """Return the distributions of `make_manifest`."""
    return compute_distributions(make_manifest(counts, **columns))


def bars(figure: Figure) -> list[float]:
    """Return the heights of the bars in a figure, from left to right."""
    return [float(patch.get_height()) for patch in figure.axes[0].patches if isinstance(patch, Rectangle)]


def class_bars(figure: Figure) -> dict[str, float]:
    """Return the length of each horizontal bar in a figure, keyed by the class name on the vertical axis."""
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    lengths = [float(patch.get_width()) for patch in figure.axes[0].patches if isinstance(patch, Rectangle)]
    return dict(zip(names, lengths, strict=True))


@pytest.mark.parametrize("class_num", [10, 50])
def test_up_to_50_classes_are_named_bars(class_num: int) -> None:
    """Ten and fifty classes are drawn as bars in label order, each with the name of its class."""
    images = [5, 9, 7] + [6] * (class_num - 3)
    names = {label: f"class {label}" for label in range(class_num)}
    counts = compute_distributions(make_manifest(images), names).class_counts["train"]
    drawn = class_bars(pictures.draw_class_balance("train", counts))
    assert list(drawn) == list(names.values())
    assert list(drawn.values()) == images


def test_classes_without_names_are_named_after_their_folders() -> None:
    """Without given names, the bars have the names of the class folders, and without folders, their labels."""
    assert list(class_bars(pictures.draw_class_balance("train", distributions_of([5, 9]).class_counts["train"]))) == [
        "n00000000",
        "n00000001",
    ]
    nameless = distributions_of([5, 9], synset="").class_counts["val"]
    assert [one.name for one in nameless] == ["label 0", "label 1"]


def test_a_thousand_classes_are_one_falling_outline() -> None:
    """A thousand classes are drawn as one filled outline that descends from left to right."""
    counts = distributions_of([1 + number % 97 for number in range(1000)]).class_counts["train"]
    figure = pictures.draw_class_balance("train", counts)
    assert bars(figure) == []
    (outline,) = (patch for patch in figure.axes[0].patches if isinstance(patch, StepPatch))
    heights = outline.get_data().values
    assert len(heights) == 1000
    assert (np.diff(heights) <= 0).all()


def test_the_caption_names_the_smallest_and_largest_classes() -> None:
    """The caption gives the range, the median, and the smallest and largest classes."""
    counts = distributions_of([1 + number % 97 for number in range(1000)]).class_counts["train"]
    caption = pictures.describe_class_balance(counts)
    smallest, largest = caption.split("Largest")
    assert all(name in smallest for name in ("n00000000 (1)", "n00000097 (1)", "n00000194 (1)"))
    assert all(name in largest for name in ("n00000096 (97)", "n00000193 (97)", "n00000290 (97)"))
    assert "1 to 97" in caption


def test_classes_of_equal_size_have_a_short_caption() -> None:
    """The caption does not list classes if they all have the same number of images."""
    caption = pictures.describe_class_balance(distributions_of([4, 4, 4]).class_counts["train"])
    assert "n0000" not in caption
    assert "4 images" in caption


def test_each_image_is_in_one_bin_of_each_figure() -> None:
    """Sizes outside the bins are counted in the first or last bin."""
    distributions = distributions_of(
        [4, 4], width=[1, 8, 500, 501, 500, 375, 10**6, 64, 33, 2], height=375, bytes=[1, 10**9] * 5
    )
    assert sum(bars(pictures.draw_short_sides(distributions.short_sides))) == 10
    assert sum(bars(pictures.draw_file_sizes(distributions.file_sizes))) == 10
    (mesh,) = (one for one in pictures.draw_sides(distributions.sides).axes[0].collections if isinstance(one, QuadMesh))
    cells = mesh.get_array()
    assert cells is not None
    assert cells.sum() == 10


def test_a_wide_image_is_right_of_the_diagonal() -> None:
    """The heat map shows width on the horizontal axis and height on the vertical axis."""
    figure = pictures.draw_sides(distributions_of([1], width=1000, height=100).sides)
    (mesh,) = (one for one in figure.axes[0].collections if isinstance(one, QuadMesh))
    cells = np.ma.filled(mesh.get_array(), 0).reshape(mesh.get_coordinates().shape[0] - 1, -1)
    ((row, column),) = np.argwhere(cells > 0)
    assert column > row


def test_figures_without_data_are_omitted() -> None:
    """A folder scan produces no figures of image sizes, and an empty manifest produces no figures at all."""
    without_sizes = pictures.draw_pictures(distributions_of([4, 4], width=0, height=0))
    titles = {heading: [one.title for one in group] for heading, group in without_sizes.items()}
    assert titles == {"Images per class": ["train/", "val/"], "Sizes": ["File size"]}
    assert pictures.draw_pictures(compute_distributions(make_manifest([4, 4]).head(0))) == {}


def test_each_picture_has_a_light_and_a_dark_version() -> None:
    """Both versions are PNG files with their theme's background, and equal data gives equal bytes."""
    distributions = distributions_of([4, 6])
    drawn = pictures.draw_pictures(distributions)
    assert {heading: len(group) for heading, group in drawn.items()} == {"Images per class": 2, "Sizes": 3}
    for picture in itertools.chain(*drawn.values()):
        for uri, theme in ((picture.light, LIGHT), (picture.dark, DARK)):
            image = Image.open(BytesIO(base64.b64decode(uri.removeprefix("data:image/png;base64,"))))
            corner = image.convert("RGB").getpixel((0, 0))
            assert corner == tuple(bytes.fromhex(theme.background[1:]))
    assert pictures.draw_pictures(distributions) == drawn


@pytest.mark.filterwarnings("error")
def test_class_names_are_not_read_as_math() -> None:
    """A class folder with `$` or markup in its name is drawn under that name."""
    figure = pictures.draw_class_balance("train", distributions_of([4, 4], synset=r"<b>$\x$").class_counts["train"])
    figure.canvas.draw()
    assert figure.axes[0].get_yticklabels()[0].get_text() == r"<b>$\x$"


def test_the_report_has_the_numbers_behind_the_figures() -> None:
    """The report contains the size quantiles and the number of images per label."""
    numbers = as_json(distributions_of([2, 4]))
    assert numbers["images_per_class"]["train"] == {
        "min": 2.0,
        "p05": pytest.approx(2.1),
        "median": 3.0,
        "p95": pytest.approx(3.9),
        "max": 4.0,
        "by_label": {"0": 2, "1": 4},
    }
    assert numbers["sizes"]["short_side"]["median"] == 300
