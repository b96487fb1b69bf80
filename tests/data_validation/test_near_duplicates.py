"""Near-duplicates of real photographs are found across splits and classes, listed in a file and shown side by side."""

from __future__ import annotations

import csv
from pathlib import Path

import matplotlib as mpl
import pytest
import sklearn.datasets
from PIL import Image

from faulty_dataset import BLOCKING, FaultyDataset
from resnet50_pipeline.expectations.near_duplicates import OTHER_LABEL, OTHER_SPLIT

pytestmark = pytest.mark.timeout(120)
CHINA, FLOWER = sorted(Path(sklearn.datasets.__file__).with_name("images").glob("*.jpg"))
HOPPER = Path(mpl.get_data_path(), "sample_data", "grace_hopper.jpg")


def put(path: Path, source: Path, width: int = 200, quality: int = 95, *, mirrored: bool = False) -> str:
    """Replace an image with a photograph and return its path within the dataset."""
    with Image.open(source) as photo:
        image = photo.convert("RGB").resize((width, round(width * photo.height / photo.width)))
    if mirrored:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    image.save(path, "JPEG", quality=quality)
    return path.name


def read_pairs(results: Path) -> list[dict[str, str]]:
    """Return the rows of the list of near-duplicates that contain photographs."""
    with (results / "data_docs" / "near_duplicates.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_near_duplicates_are_warnings(faulty: FaultyDataset) -> None:
    """A smaller copy in val/ and a re-encoded copy in another class are warnings with both images and their labels."""
    original = put(faulty.image("train", 0), CHINA)
    in_val = put(faulty.image("val", 0), CHINA, width=140)
    in_class = put(faulty.image("train", 3), CHINA, quality=40)
    put(faulty.image("train", 4), FLOWER)
    put(faulty.image("train", 5), FLOWER, mirrored=True)
    put(faulty.image("val", 6), HOPPER)
    outcome = faulty.run()
    assert outcome.exit_code == 0
    leaks = outcome.problems(OTHER_SPLIT)
    assert [in_val in problem for problem in leaks] == [True]
    assert "val_list.txt:" in leaks[0]
    assert original in leaks[0] or in_class in leaks[0]
    assert "and like 1 other image" in leaks[0]
    (conflict,) = [problem for problem in outcome.problems(OTHER_LABEL) if in_class in problem.split(" looks like ")[0]]
    assert f"{original} with label 0, but has label 3" in conflict
    assert "copies_have_one_label" in {one["name"] for one in outcome.report["expectations"] if one["success"]}
    pairs = read_pairs(outcome.results)
    found = {tuple(sorted(Path(pair[name]).name for name in ("path", "other_path"))) for pair in pairs}
    assert found == {tuple(sorted(pair)) for pair in ((original, in_val), (original, in_class), (in_val, in_class))}
    assert [pair["across_splits"] for pair in pairs].count("1") == 2
    assert [pair["different_labels"] for pair in pairs].count("1") == 2
    assert all(int(pair["different_bits"]) <= 12 and float(pair["correlation"]) >= 0.975 for pair in pairs)
    observed = {one["name"]: one["observed"] for one in outcome.report["expectations"]}
    assert observed[OTHER_SPLIT] == observed[OTHER_LABEL] == "3 of 60 images fail, in 2 pairs"
    page = (outcome.results / "data_docs" / "index.html").read_text()
    assert "Each entry shows an image and the most similar one among those before it" in page
    shown = page.split(leaks[0].split(" looks like ")[0].split(": ")[-1])
    assert len(shown) >= 3  # as the title of its picture, and in the problem
    assert any(
        "3 pairs of near-duplicates: 2 across splits, 2 with different labels, 0 in" in notice
        for notice in outcome.report["notices"]
    )


def test_near_duplicates_can_be_blocking(faulty: FaultyDataset) -> None:
    """A blocking expectation stops the run and names both images."""
    put(faulty.image("train", 0), CHINA)
    in_val = put(faulty.image("val", 0), CHINA, quality=50)
    outcome = faulty.run((*BLOCKING, OTHER_SPLIT))
    assert outcome.exit_code != 0
    assert in_val in outcome.message
    assert f"[{OTHER_SPLIT}]" in outcome.message


def test_exact_copies_are_not_near_duplicates(faulty: FaultyDataset) -> None:
    """An exact copy is reported only by the expectations about copies."""
    original, copy = faulty.image("train", 0), faulty.image("val", 0)
    put(original, CHINA)
    copy.write_bytes(original.read_bytes())
    outcome = faulty.run()
    assert outcome.exit_code != 0
    assert len(outcome.problems("splits_share_no_image")) == 1
    assert outcome.problems(OTHER_SPLIT) == []
    assert read_pairs(outcome.results) == []


def test_nothing_is_checked_without_pixels(faulty: FaultyDataset) -> None:
    """A scan that does not decode the images cannot find near-duplicates, and says so."""
    outcome = faulty.run(validation={"scan": {"level": "header"}})
    by_name = {one["name"]: one for one in outcome.report["expectations"]}
    assert not by_name[OTHER_SPLIT]["is_checked"]
    assert by_name[OTHER_SPLIT]["unread_images"] == 60
