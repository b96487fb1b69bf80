"""Thumbnails show a few images of each class, and the images that failed an expectation."""

from __future__ import annotations

import base64
import io
import tarfile
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from faulty_dataset import encode
from resnet50_pipeline.expectations.distributions import compute_distributions
from resnet50_pipeline.expectations.findings import Finding, Problem
from resnet50_pipeline.expectations.thumbnails import MAX_CLASSES, Gallery, make_gallery, make_thumbnail
from resnet50_pipeline.imagenet.archives.images import index_archives, read_image


def make_manifest(class_num: int, images_per_class: int) -> pd.DataFrame:
    """Return a manifest with as many images per class in train/ as in val/."""
    rows = [
        (split, label, f"{split}/n{label:08d}/{number}.JPEG")
        for split in ("train", "val")
        for label in range(class_num)
        for number in range(images_per_class)
    ]
    manifest = pd.DataFrame(rows, columns=["split", "label", "path"])
    return manifest.assign(synset="", width=28, height=28, bytes=500, status="ok")


def gallery_of(manifest: pd.DataFrame, *findings: Finding) -> tuple[Gallery, list[str]]:
    """Return the gallery of a manifest, and the paths of the images that were read."""
    read: list[str] = []

    def read_path(path: str) -> bytes:
        read.append(path)
        return encode("L")

    counts = compute_distributions(manifest).class_counts
    return make_gallery(manifest, counts, findings, read_path), read


def decode(uri: str) -> Image.Image:
    """Return the image in a `data:` URI."""
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


def test_each_class_has_images_of_both_splits() -> None:
    """Five images from train/ and three from val/ are shown per class, evenly spaced from the first to the last."""
    gallery, _ = gallery_of(make_manifest(2, 9))
    assert [one.name for one in gallery.classes] == ["label 0", "label 1"]
    shown = {split: [one.path for one in thumbnails] for split, thumbnails in gallery.classes[1].thumbnails.items()}
    assert shown == {
        "train": [f"train/n00000001/{number}.JPEG" for number in (0, 2, 4, 6, 8)],
        "val": [f"val/n00000001/{number}.JPEG" for number in (0, 4, 8)],
    }


def test_large_datasets_show_evenly_spaced_classes() -> None:
    """Of 120 classes, 50 are shown, including the first and the last."""
    gallery, read = gallery_of(make_manifest(120, 2))
    labels = [one.label for one in gallery.classes]
    assert (len(labels), labels[0], labels[-1], gallery.class_count) == (MAX_CLASSES, 0, 119, 120)
    assert set(np.diff(labels)) == {2, 3}
    assert len(read) == 4 * MAX_CLASSES


def test_only_readable_files_are_opened() -> None:
    """Files that are missing, or no regular files, are never opened, because reading them might never end."""
    manifest = make_manifest(1, 3)
    manifest.loc[[0, 1], "status"] = ["missing", "not_a_file"]
    problems = [Problem("train_list.txt", row + 1, path, "", "") for row, path in enumerate(manifest["path"][:3])]
    gallery, read = gallery_of(manifest, Finding("images_exist", "", True, False, "", tuple(problems)))
    assert [bool(gallery.by_path[problem.path].uri) for problem in problems] == [False, False, True]
    assert not {problem.path for problem in problems[:2]} & set(read)


def test_findings_about_many_images_show_examples() -> None:
    """If a problem does not name a path, the examples of the finding are shown."""
    manifest = make_manifest(1, 3)
    merged = Problem("", 0, "", "3 images in train/ are gray", "")
    paths = ("train/n00000000/0.JPEG", "train/n00000000/1.JPEG")
    gallery, _ = gallery_of(manifest, Finding("images_are_rgb", "", False, False, "", (merged,), examples=paths))
    assert tuple(gallery.by_path) == paths


@pytest.mark.parametrize(
    ("size", "media_type", "shape"),
    [((28, 28), "image/png", (28, 28)), ((400, 300), "image/jpeg", (96, 96)), ((300, 90), "image/jpeg", (96, 90))],
)
def test_thumbnails_are_small(size: tuple[int, int], media_type: str, shape: tuple[int, int]) -> None:
    """Tiny images are kept without loss; larger ones are reduced to the central square of at most 96 pixels."""
    buffer = io.BytesIO()
    Image.new("RGB", size, (200, 30, 30)).save(buffer, "JPEG")
    thumbnail = make_thumbnail("x.JPEG", lambda _: buffer.getvalue())
    assert thumbnail.uri.startswith(f"data:{media_type};base64,")
    assert decode(thumbnail.uri).size == shape
    assert thumbnail.is_tiny == (max(size) <= 64)


def test_damaged_images_have_no_thumbnail() -> None:
    """An image that cannot be decoded has an empty thumbnail."""
    assert make_thumbnail("x.JPEG", lambda _: encode()[:200]).uri == ""


def test_images_are_read_from_archives(tmp_path: Path) -> None:
    """An image of an archived split is read from the archive, and other images from separate files."""
    inside, outside = encode(seed=1), encode(seed=2)
    archive = tmp_path / "val.tar"
    with tarfile.open(archive, "w") as tar:
        for name in ("first.JPEG", "second.JPEG"):
            member = tarfile.TarInfo(name)
            member.size = len(inside)
            tar.addfile(member, io.BytesIO(inside))
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "x.JPEG").write_bytes(outside)
    read = partial(read_image, tmp_path, index_archives({"val": archive}))
    assert read("val/second.JPEG") == inside
    assert read("train/x.JPEG") == outside
