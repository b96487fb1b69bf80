"""The table that Great Expectations looks at: the manifest made small, and what a row can say of its class.

Great Expectations copies its table several times an expectation. Repeated strings are therefore held once, as
categories, and what no expectation asks for is left out: 1.33 million rows are copied in milliseconds instead of half
a second. Categories are not sorted, which would take longer than all the rest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from resnet50_pipeline.imagenet.known_images import KNOWN_CMYK, KNOWN_PNG
from resnet50_pipeline.imagenet.list_files import SPLITS

KNOWN_IMAGES = KNOWN_PNG | KNOWN_CMYK
NOTHING = ""


def build_batch(manifest: pd.DataFrame, reference: pd.DataFrame | None = None) -> pd.DataFrame:
    """Return the columns of the manifest that expectations ask for, and these.

    `suffix`: of the name. `known_name`: name of the file if it is one of ILSVRC2012's known PNG and CMYK images, else
    "". `known_as_is`: the same, but only where the image is what it is known for, as far as it was read. The others
    have a value in one row of each class, or of train/, so that a fault of a class is one fault: `images_in_class`, in
    the first listed row of each class and split; `sorted_label`, where that row is of train/: the place of its synset
    among all; `synsets_digest`, in the first listed row of train/: SHA-256 of its sorted synsets, one a line.
    `sha256_before`: of the image in `reference`, where that has one.

    Args:
        manifest: as `imagenet.scan.scan_dataset` gives it, with the index 0..N-1.
        reference: an earlier manifest.
    """
    paths: list[str] = manifest["path"].tolist()
    names = [path[path.rfind("/") + 1 :] for path in paths]
    is_listed = (manifest["status"] != "unlisted").to_numpy(dtype=bool)
    labels = manifest["label"].to_numpy(dtype=np.int64)
    splits = manifest["split"].to_numpy(dtype=object)
    known = [name if name in KNOWN_IMAGES else NOTHING for name in names]
    batch = {
        "path": _as_categories(paths),
        "label": labels,
        "suffix": _as_categories([name[index:] if (index := name.rfind(".")) != -1 else NOTHING for name in names]),
        "exif_orientation": manifest["exif_orientation"].to_numpy(dtype=np.int16),
        "trailing_bytes": manifest["trailing_bytes"].to_numpy(dtype=np.int64),
        "sha256_before": _find_earlier_digests(paths, reference),
        "known_name": _as_categories(known),
        "known_as_is": _as_categories(_keep_what_is_as_known(manifest, known)),
        **{
            column: _as_categories(manifest[column].to_numpy(dtype=object))
            for column in ("split", "synset", "format", "mode", "sha256", "status")
        },
        **_describe_classes(manifest["synset"].to_numpy(dtype=object), labels, splits, is_listed),
    }
    return pd.DataFrame(batch, copy=False)


def digest_synsets(synsets: Sequence[str]) -> str:
    """Return the SHA-256 of the sorted synsets, one a line, without a last newline."""
    return hashlib.sha256("\n".join(sorted(synsets)).encode()).hexdigest()


def _find_earlier_digests(paths: list[str], reference: pd.DataFrame | None) -> NDArray[np.object_] | list[None]:
    if reference is None:
        return [None] * len(paths)
    digests = dict(zip(reference["path"].tolist(), reference["sha256"].tolist(), strict=True))
    return np.array([digests.get(path) or None for path in paths], dtype=object)


def _keep_what_is_as_known(manifest: pd.DataFrame, known: list[str]) -> list[str]:
    rows = [row for row, name in enumerate(known) if name]
    kept = [NOTHING] * len(known)
    found = zip(rows, manifest["format"].iloc[rows], manifest["mode"].iloc[rows], strict=True)
    for row, image_format, mode in found:
        is_as_known = image_format == "PNG" if known[row] in KNOWN_PNG else mode == "CMYK"
        if is_as_known or not image_format:
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
            folders = sorted(set(pd.unique(synsets[of_split])) - {NOTHING})
            place = {synset: number for number, synset in enumerate(folders)}
            sorted_label[of_split[first]] = [place.get(synset, np.nan) for synset in synset_of_row]
            synsets_digest[of_split[0]] = digest_synsets(folders)
    return {"images_in_class": images_in_class, "sorted_label": sorted_label, "synsets_digest": synsets_digest}


def _as_categories(values: Sequence[str] | NDArray[np.object_]) -> pd.Categorical:
    codes, uniques = pd.factorize(np.asarray(values, dtype=object))
    return pd.Categorical.from_codes(codes, categories=pd.Index(uniques, dtype=object))
