"""Images that do not come from ImageNet are not expected to have the names of ImageNet's files."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from resnet50_pipeline.expectations.validation import validate_manifest
from resnet50_pipeline.imagenet.layout import find_layout, read_lists
from resnet50_pipeline.imagenet.scan.scan import scan_dataset


@pytest.mark.parametrize(
    ("folder", "blocking", "is_expected"),
    [("n00000003", (), True), ("three", (), False), ("three", ("names_end_in_jpeg",), True)],
)
def test_only_data_with_synsets_has_names_of_imagenet(
    digits: Path, folder: str, blocking: tuple[str, ...], is_expected: bool
) -> None:
    """The suffix .JPEG is expected if all class folders are named after synsets, or if a run without it must stop."""
    for name in ("train_list.txt", "val_list.txt"):
        (digits / name).unlink()
    if folder != "n00000003":
        for split in ("train", "val"):
            (digits / split / "n00000003").rename(digits / split / folder)
    lists = read_lists(find_layout(digits), class_num=10)
    manifest: pd.DataFrame = scan_dataset(digits, {split: one.entries for split, one in lists.items()}, workers=1)
    names = [finding.name for finding in validate_manifest(manifest, 10, blocking).findings]
    assert ("names_end_in_jpeg" in names) is is_expected
