"""What is said of two manifests: which images differ, and whether they are of one version."""

from __future__ import annotations

import pandas as pd

from resnet50_pipeline.imagenet.digest import compute_data_digest, compute_manifest_digest
from resnet50_pipeline.imagenet.manifest_changes import find_changes


def manifest(**content: str) -> pd.DataFrame:
    """Return a manifest of train images {name: content}; of one without content there is no digest."""
    names = list(content)
    return pd.DataFrame(
        {
            "split": "train",
            "path": [f"train/{name}" for name in names],
            "label": pd.array(range(len(names)), "Int64"),
            "bytes": [len(content[name]) for name in names],
            "sha256": list(content.values()),
            "status": "ok",
        }
    )


def test_changed_new_and_lost_images_are_named() -> None:
    """Each is in one kind of change, sorted; an image that is as it was is in none."""
    changes = find_changes(manifest(a="1", b="2", d="4", c="3"), manifest(a="1", b="x", f="6", e="5"))
    assert changes.changed == ("train/b",)
    assert changes.added == ("train/e", "train/f")
    assert changes.gone == ("train/c", "train/d")
    assert list(changes.lines(1)) == [
        "changed: 1: train/b",
        "new: 2: train/e and 1 more",
        "gone: 2: train/c and 1 more",
    ]


def test_another_label_is_a_change_and_the_same_manifest_is_none() -> None:
    """What is trained depends on labels too."""
    before, after = manifest(a="1", b="2"), manifest(a="1", b="2")
    assert list(find_changes(before, after).lines(9)) == []
    after["label"] = after["label"] + 1
    assert find_changes(before, after).changed == ("train/a", "train/b")


def test_without_a_digest_the_size_says_whether_an_image_changed() -> None:
    """A missing image has no digest, and is as it was when it was missing before."""
    before, after = manifest(a="", b=""), manifest(a="", b="")
    after["bytes"] = [0, 7]
    assert find_changes(before, after).changed == ("train/b",)


def test_a_path_that_is_listed_twice_counts_once() -> None:
    """Its first row is compared; that it is there twice is for data_validation to say."""
    once = manifest(a="1", b="2")
    twice = pd.concat([once, once.head(1)], ignore_index=True)
    assert list(find_changes(once, twice).lines(9)) == []


def test_the_order_of_rows_is_part_of_the_manifest_and_not_of_the_data() -> None:
    """The data digest names images and labels; the manifest's says in which order they are trained on, too."""
    rows = manifest(a="1", b="2")
    turned = rows.iloc[::-1].reset_index(drop=True)
    assert compute_data_digest(rows) == compute_data_digest(turned)
    assert compute_manifest_digest(rows) != compute_manifest_digest(turned)
