"""Finds rows whose labels are inconsistent within a class folder, and rows whose content is also in another split."""

from __future__ import annotations

import numpy as np
import pandas as pd


def find_folder_labels(manifest: pd.DataFrame) -> pd.Series[int]:
    """Return the label of each class folder, indexed by synset: the most frequent label of its training images.

    Args:
        manifest: table with the columns split, synset and label. Images without a known folder (synset "") are ignored.
    """
    train = manifest[(manifest["split"] == "train") & (manifest["synset"] != "") & (manifest["label"] >= 0)]
    counts = train.groupby(["synset", "label"], observed=True).size().reset_index(name="images")
    counts = counts.sort_values(["images", "label"], ascending=[False, True]).drop_duplicates("synset")
    labels = counts.set_index("synset")["label"]
    labels.index = labels.index.astype(object)  # A categorical index cannot be compared with plain strings.
    return labels


def follows_folder(rows: pd.DataFrame) -> pd.Series[bool]:
    """Return a boolean per row: True if the row's label belongs to its class folder and to no other folder.

    The training images define the label of a folder. A folder that exists only in val/ must not use the label of a
    train folder.

    Args:
        rows: table with the columns split, synset and label.
    """
    folder_labels = find_folder_labels(rows)
    shared = folder_labels.index[folder_labels.duplicated(keep=False)]
    expected = rows["synset"].map(folder_labels).astype("Int64")
    agrees = (expected == rows["label"]) & ~rows["synset"].isin(shared)
    is_free = expected.isna() & ((rows["synset"] == "") | ~rows["label"].isin(folder_labels))
    return (is_free | agrees).fillna(value=False).astype(bool)


def is_in_one_split(rows: pd.DataFrame) -> pd.Series[bool]:
    """Return a boolean per row: True if the content of the image occurs in only one split.

    Args:
        rows: table with the columns split and sha256. An empty digest never matches another image.
    """
    content = rows["sha256"].astype("category")
    codes = content.cat.codes.to_numpy()
    in_splits = np.zeros(len(content.cat.categories), dtype=np.int64)
    for split in rows["split"].unique():
        in_splits[np.unique(codes[(rows["split"] == split).to_numpy()])] += 1
    is_shared = (in_splits > 1) & (content.cat.categories != "")
    return pd.Series(~is_shared[codes], index=rows.index)
