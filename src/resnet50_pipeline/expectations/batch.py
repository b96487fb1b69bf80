"""Builds the table that Great Expectations validates: a compact copy of the manifest with additional columns.

Great Expectations copies the table several times per expectation. To make copies fast, repeated strings are stored as
categories, and columns that no expectation needs are dropped. Copying 1.33 million rows then takes a few milliseconds
instead of half a second. The categories are not sorted, because sorting takes longer than all other steps combined.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from resnet50_pipeline.expectations.near_duplicates import OTHER_LABEL, OTHER_SPLIT, NearDuplicates
from resnet50_pipeline.expectations.odd_images import OddImages, find_odd_images
from resnet50_pipeline.imagenet.lists.files import SPLITS
from resnet50_pipeline.imagenet.scan.known_images import KNOWN_CMYK, KNOWN_PNG
from resnet50_pipeline.imagenet.scan.manifest import find_listed

KNOWN_IMAGES = KNOWN_PNG | KNOWN_CMYK
EMPTY = ""


def build_batch(
    manifest: pd.DataFrame,
    reference: pd.DataFrame | None = None,
    near: NearDuplicates | None = None,
    odd: Mapping[str, OddImages] | None = None,
) -> pd.DataFrame:
    """Return the manifest columns that the expectations use, with the following additional columns.

    - `suffix`: file name extension.
    - `known_name`: file name if it is one of the known PNG and CMYK images in ILSVRC2012, otherwise "".
    - `known_as_is`: same as `known_name`, but "" if the scan found an unexpected format or color mode.
    - `images_in_class`: number of images in the class and split, set only in the first listed row of each class and
    split.
    - `sorted_label`: position of the synset among all sorted synsets, set only in the first listed row of each class in
      train/.
    - `synsets_digest`: SHA-256 of the sorted synsets, one per line, set only in the first listed row of train/.
    - `sha256_before`: digest of the image in `reference`, or None.
    - `has_other_label`: whether a listed image with the same digest has a different label.
    - `splits_share_no_near_duplicates`, `near_duplicates_have_one_label`: whether the image has a near-duplicate in
      another split or with a different label; only if `near` is given.
    - a column for each name in `ODD_EXPECTATIONS`: whether the image is odd.

    Class columns have one value per class, and split columns one value per split, so that each problem is counted
    only once.

    Args:
        manifest: result of `imagenet.scan.scan_dataset`, indexed 0..N-1.
        reference: an earlier manifest.
        near: near-duplicates in the manifest.
        odd: result of `find_odd_images`. If None, it is computed from the manifest.
    """
    paths: list[str] = manifest["path"].tolist()
    names = [path[path.rfind("/") + 1 :] for path in paths]
    is_listed = find_listed(manifest)
    labels = manifest["label"].to_numpy(dtype=np.int64)
    splits = manifest["split"].to_numpy(dtype=object)
    known = [name if name in KNOWN_IMAGES else EMPTY for name in names]
    batch = {
        "path": _as_categories(paths),
        "label": labels,
        "suffix": _as_categories([name[index:] if (index := name.rfind(".")) != -1 else EMPTY for name in names]),
        "exif_orientation": manifest["exif_orientation"].to_numpy(dtype=np.int16),
        "trailing_bytes": manifest["trailing_bytes"].to_numpy(dtype=np.int64),
        "sha256_before": _find_earlier_digests(paths, reference),
        "has_other_label": _find_other_labels(manifest["sha256"].to_numpy(dtype=object), labels, is_listed),
        "known_name": _as_categories(known),
        "known_as_is": _as_categories(_select_unconverted(manifest, known)),
        **{
            column: _as_categories(manifest[column].to_numpy(dtype=object))
            for column in ("split", "synset", "format", "mode", "sha256", "ignored", "status")
        },
        **({name: near.mark_rows(name, len(labels)) for name in (OTHER_SPLIT, OTHER_LABEL)} if near else {}),
        **{name: images.mark_rows(len(labels)) for name, images in (odd or find_odd_images(manifest)).items()},
        **_describe_classes(manifest["synset"].to_numpy(dtype=object), labels, splits, is_listed),
    }
    return pd.DataFrame(batch, copy=False)


def digest_synsets(synsets: Sequence[str]) -> str:
    """Return the SHA-256 of the sorted synsets, joined with newlines."""
    return hashlib.sha256("\n".join(sorted(synsets)).encode()).hexdigest()


def _find_earlier_digests(paths: list[str], reference: pd.DataFrame | None) -> NDArray[np.object_] | list[None]:
    if reference is None:
        return [None] * len(paths)
    digests = dict(zip(reference["path"].tolist(), reference["sha256"].tolist(), strict=True))
    return np.array([digests.get(path) or None for path in paths], dtype=object)


def _find_other_labels(
    digests: NDArray[np.object_], labels: NDArray[np.int64], is_listed: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    rows = np.flatnonzero(is_listed & (digests != EMPTY))
    # Nearly all digests occur only once, so few rows need a comparison.
    copies = pd.Series(labels[rows], index=rows)[pd.Series(digests[rows]).duplicated(keep=False).to_numpy()]
    by_content = copies.groupby(digests[copies.index])
    found = np.zeros(len(labels), bool)
    found[copies.index] = (by_content.transform("min") != by_content.transform("max")).to_numpy()
    return found


def _select_unconverted(manifest: pd.DataFrame, known: list[str]) -> list[str]:
    rows = [row for row, name in enumerate(known) if name]
    kept = [EMPTY] * len(known)
    found = zip(rows, manifest["format"].iloc[rows], manifest["mode"].iloc[rows], strict=True)
    for row, image_format, mode in found:
        is_unconverted = image_format == "PNG" if known[row] in KNOWN_PNG else mode == "CMYK"
        if is_unconverted or not image_format:
            kept[row] = known[row]
    return kept


def _describe_classes(
    synsets: NDArray[np.object_], labels: NDArray[np.int64], splits: NDArray[np.object_], is_listed: NDArray[np.bool_]
) -> dict[str, NDArray[Any]]:
    rows = len(labels)
    images_in_class, sorted_label = np.full(rows, np.nan), np.full(rows, np.nan)
    synsets_digest = np.full(rows, None, dtype=object)
    for split in SPLITS:
        of_split = np.flatnonzero(is_listed & (splits == split))
        _, first, counts = np.unique(labels[of_split], return_index=True, return_counts=True)
        images_in_class[of_split[first]] = counts
        if split == "train" and len(of_split):
            synset_of_row = synsets[of_split[first]]
            folders = sorted(set(pd.unique(synsets[of_split])) - {EMPTY})
            position = {synset: number for number, synset in enumerate(folders)}
            sorted_label[of_split[first]] = [position.get(synset, np.nan) for synset in synset_of_row]
            synsets_digest[of_split[0]] = digest_synsets(folders)
    return {"images_in_class": images_in_class, "sorted_label": sorted_label, "synsets_digest": synsets_digest}


def _as_categories(values: Sequence[str] | NDArray[np.object_]) -> pd.Categorical:
    codes, uniques = pd.factorize(np.asarray(values, dtype=object))
    return pd.Categorical.from_codes(codes, categories=pd.Index(uniques, dtype=object))
