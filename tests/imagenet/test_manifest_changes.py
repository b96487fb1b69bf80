"""Changes between two manifests are found, and the digests depend on the right columns."""

from __future__ import annotations

import pandas as pd

from resnet50_pipeline.imagenet.scan.digest import compute_data_digest, compute_manifest_digest
from resnet50_pipeline.imagenet.scan.manifest_changes import find_changes


def manifest(**content: str) -> pd.DataFrame:
    """Return a manifest of training images {name: content}; empty content means no digest."""
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
    """Changed, added and removed images are listed separately and sorted."""
    changes = find_changes(manifest(a="1", b="2", d="4", c="3"), manifest(a="1", b="x", f="6", e="5"))
    assert changes.changed == ("train/b",)
    assert changes.added == ("train/e", "train/f")
    assert changes.gone == ("train/c", "train/d")
    assert list(changes.lines(1)) == [
        "changed: 1: train/b",
        "new: 2: train/e and 1 more",
        "gone: 2: train/c and 1 more",
    ]


def test_changed_labels_are_found_and_equal_manifests_have_no_changes() -> None:
    """A different label counts as a change, and equal manifests have no changes."""
    before, after = manifest(a="1", b="2"), manifest(a="1", b="2")
    assert list(find_changes(before, after).lines(9)) == []
    after["label"] = after["label"] + 1
    assert find_changes(before, after).changed == ("train/a", "train/b")


def test_images_without_digest_are_compared_by_size() -> None:
    """Images without digests are compared by size."""
    before, after = manifest(a="", b=""), manifest(a="", b="")
    after["bytes"] = [0, 7]
    assert find_changes(before, after).changed == ("train/b",)


def test_a_path_that_is_listed_twice_counts_once() -> None:
    """For a path that is listed twice, only the first row is compared."""
    once = manifest(a="1", b="2")
    twice = pd.concat([once, once.head(1)], ignore_index=True)
    assert list(find_changes(once, twice).lines(9)) == []


def test_row_order_changes_only_the_manifest_digest() -> None:
    """The manifest digest depends on the order of rows; the data digest does not."""
    rows = manifest(a="1", b="2")
    turned = rows.iloc[::-1].reset_index(drop=True)
    assert compute_data_digest(rows) == compute_data_digest(turned)
    assert compute_manifest_digest(rows) != compute_manifest_digest(turned)
