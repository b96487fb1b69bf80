"""Rules that look at a row of the manifest together with other rows."""

from __future__ import annotations

import numpy as np
import pandas as pd

from resnet50_pipeline.imagenet.list_files import SPLITS


def find_folder_labels(manifest: pd.DataFrame) -> pd.Series[int]:
    """Return the label of each class folder, by synset: the one that most of its train images have.

    Args:
        manifest: with the columns split, synset and label. Images whose folder is unknown (synset "") have no part.
    """
    train = manifest[(manifest["split"] == "train") & (manifest["synset"] != "") & (manifest["label"] >= 0)]
    counts = train.groupby(["synset", "label"], observed=True).size().reset_index(name="images")
    counts = counts.sort_values(["images", "label"], ascending=[False, True]).drop_duplicates("synset")
    labels = counts.set_index("synset")["label"]
    labels.index = labels.index.astype(object)  # of a table of categories, too
    return labels


def follows_folder(rows: pd.DataFrame) -> pd.Series[bool]:
    """Tell of each row whether its label is that of its class folder, and of no other folder.

    The train images say which label a folder has. A folder that train/ does not have must not have a label that a
    folder of train/ has.

    Args:
        rows: with the columns split, synset and label.
    """
    folder_labels = find_folder_labels(rows)
    shared = folder_labels.index[folder_labels.duplicated(keep=False)]
    expected = rows["synset"].map(folder_labels).astype("Int64")
    agrees = (expected == rows["label"]) & ~rows["synset"].isin(shared)
    is_free = expected.isna() & ((rows["synset"] == "") | ~rows["label"].isin(folder_labels))
    return (is_free | agrees).fillna(value=False).astype(bool)


def is_in_one_split(rows: pd.DataFrame) -> pd.Series[bool]:
    """Tell of each row whether its content stands in its own split only.

    Args:
        rows: with the columns split and sha256; an empty digest is that of no image.
    """
    content = rows["sha256"].astype("category")
    codes = content.cat.codes.to_numpy()
    stands_in = np.zeros((len(SPLITS), len(content.cat.categories)), dtype=bool)
    for number, split in enumerate(SPLITS):
        stands_in[number, codes[(rows["split"] == split).to_numpy()]] = True
    is_shared = stands_in.all(axis=0) & (content.cat.categories != "")
    return pd.Series(~is_shared[codes], index=rows.index)
