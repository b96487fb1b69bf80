"""Odd images of each kind are found among photographs, and ordinary images in unusual datasets are not reported."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import sklearn.datasets
from PIL import Image, ImageFilter, ImageOps

from resnet50_pipeline.expectations.claims import CLAIMS
from resnet50_pipeline.expectations.odd_images import ODD_EXPECTATIONS, explain_odd_images, find_odd_images
from resnet50_pipeline.imaging.content.measures import measure_content, reduce_pixels

PHOTOS = (
    *sorted(Path(sklearn.datasets.__file__).with_name("images").glob("*.jpg")),
    Path(mpl.get_data_path(), "sample_data", "grace_hopper.jpg"),
)
LISTS = {"train": "train_list.txt", "val": "val_list.txt"}


def make_crops() -> list[Image.Image]:
    """Return 60 crops from the photographs, in different sizes of at least 400 x 300 pixels."""
    crops = []
    for path in PHOTOS:
        photo = Image.open(path).convert("RGB").resize((600, 480))
        for number in range(20):
            left, top = 45 * (number % 5), 45 * (number // 5)
            crops.append(photo.crop((left, top, left + 400 + number, top + 300 + 2 * number)))
    return crops


def make_manifest(images: list[Image.Image]) -> pd.DataFrame:
    """Return a manifest of images with alternating labels."""
    rows = [
        {
            **{"split": "train", "path": f"train/{number}.png", "label": number % 2, "status": "ok"},
            **{"width": image.width, "height": image.height},
            **measure_content(reduce_pixels(np.asarray(image.convert("RGB"))[..., ::-1].copy()))._asdict(),
        }
        for number, image in enumerate(images)
    ]
    return pd.DataFrame(rows).astype({"label": "Int64"})


CROPS = make_crops()
ODD: dict[str, Callable[[Image.Image], Image.Image]] = {
    "images_are_not_blank": lambda image: Image.new("RGB", image.size, (90, 60, 30)),
    "images_are_not_dark": lambda image: image.point(lambda value: value // 8),
    "images_are_not_bright": lambda image: image.point(lambda value: 245 + value // 26),
    "images_are_not_blurred": lambda image: image.filter(ImageFilter.GaussianBlur(15)),
    "images_have_detail": lambda image: ImageOps.expand(Image.new("L", (150, 110), 200), 125, fill=40),
    "aspect_ratios_are_usual": lambda image: image.resize((1200, 100)),
    "sizes_fit_their_class": lambda image: image.resize((image.width // 5, image.height // 5)),
}


def test_each_kind_is_an_expectation():
    """Each kind of odd image has an expectation with a claim."""
    assert set(find_odd_images(make_manifest(CROPS[:2]))) == set(ODD_EXPECTATIONS) == set(ODD)
    assert set(ODD_EXPECTATIONS) <= set(CLAIMS)


def test_ordinary_photographs_are_not_odd():
    """No crop from an ordinary photograph is odd."""
    found = find_odd_images(make_manifest(CROPS))
    assert {name: odd.rows.tolist() for name, odd in found.items() if len(odd.rows)} == {}


@pytest.mark.parametrize("name", ODD)
def test_an_odd_image_is_found(name):
    """One odd image among 60 ordinary ones is found, and the problem names it."""
    images = [*CROPS]
    images[7] = ODD[name](images[7])
    manifest = make_manifest(images)
    found = find_odd_images(manifest)
    assert found[name].rows.tolist() == [7]
    assert found[name].mark_rows(60).nonzero()[0].tolist() == [7]
    (problem,) = explain_odd_images(found[name], manifest, LISTS)
    assert (problem.file, problem.line, problem.path) == ("train_list.txt", 8, "train/7.png")


@pytest.mark.parametrize("name", ["images_are_not_dark", "images_are_not_bright", "images_are_not_blurred"])
def test_images_like_the_rest_of_the_dataset_are_not_odd(name):
    """If all images are dark, bright or blurred, only a few count as odd, although all exceed a bound."""
    found = find_odd_images(make_manifest([ODD[name](image) for image in CROPS]))
    assert len(found[name].rows) <= len(CROPS) // 4


def test_the_oddest_image_comes_first():
    """The problems are sorted by how odd the images are."""
    images = [*CROPS]
    images[3], images[9] = (images[at].point(lambda value, by=by: value // by) for at, by in ((3, 6), (9, 20)))
    assert find_odd_images(make_manifest(images))["images_are_not_dark"].rows.tolist() == [9, 3]


def test_images_that_were_not_decoded_are_not_odd():
    """Missing, damaged and undecoded images have no scores and are not odd, even if there are no others."""
    manifest = make_manifest(CROPS[:4])
    manifest.loc[0, "status"] = "missing"
    scores = ["brightness_p5", "brightness_p99", "entropy", "sharpness"]
    manifest[scores] = np.float32(np.nan)
    manifest[["width", "height"]] = 0
    assert all(len(odd.rows) == 0 for odd in find_odd_images(manifest).values())
