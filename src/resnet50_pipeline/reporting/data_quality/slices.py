"""Finds slices on which the model is significantly less accurate. A slice is a group of images with a common attribute.

The attributes come from the manifest (size, shape, format and image scores), from the number of training images per
class, and from an optional table provided by the user. Numeric attributes are divided at their quartiles.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scipy.stats import false_discovery_control, hypergeom

from resnet50_pipeline.exceptions import EvaluationTableError
from resnet50_pipeline.reporting.class_intervals import FALSE_DISCOVERY_RATE, wilson_interval
from resnet50_pipeline.reporting.prediction_table import PredictionTable

SLICE_COLUMNS = ("attribute", "slice", "images", "top1", "top1_low", "top1_high", "rest_top1", "p_value", "is_worse")
# Columns of the manifest that do not describe the picture itself.
_NOT_ATTRIBUTES = frozenset(
    {
        *("split", "synset", "path", "label", "bytes", "sha256", "status", "problem", "mtime_ns", "scan_level"),
        *("trailing_bytes", "ignored", "width", "height", "difference_hash"),
    }
)
_QUANTILES = 4
# A text column with more distinct values, such as a file name, does not describe groups of images.
_MAX_VALUES = 50
# Smaller slices are rarely significant, and testing them would only weaken the other tests.
_MIN_IMAGES = 5


def read_image_attributes(manifest_file: Path) -> pd.DataFrame:
    """Return the attributes of the listed images in a manifest, with the path as the index.

    Columns: `image size` (geometric mean of width and height in pixels), `aspect ratio` (width / height), `training
    images of the class`, `format`, `mode`, and all other numeric and text columns, such as scores.
    """
    columns = pq.read_schema(manifest_file).names
    further = [name for name in columns if name not in _NOT_ATTRIBUTES]
    manifest = pd.read_parquet(manifest_file, columns=["split", "path", "label", "width", "height", *further])
    manifest = manifest[manifest["label"] >= 0]
    train = manifest.loc[manifest["split"] == "train", "label"].value_counts()
    width, height = manifest["width"].astype(float), manifest["height"].astype(float)
    own = {
        "image size": np.sqrt((width * height).where(lambda area: area > 0)),
        "aspect ratio": (width / height).where(height > 0),
        "training images of the class": manifest["label"].map(train).fillna(0),
    }
    scores = [name for name in further if _is_attribute(manifest[name])]
    table = pd.DataFrame({**own, **{name.replace("_", " "): manifest[name] for name in scores}})
    # An image in both lists has two rows with the same attributes.
    table = table.set_index(manifest["path"])
    return table[~table.index.duplicated()]


def _is_attribute(column: pd.Series[Any]) -> bool:
    return pd.api.types.is_numeric_dtype(column) or bool(column.map(type).isin([str, type(None)]).all())


def read_user_attributes(path: Path, images: NDArray[np.object_]) -> pd.DataFrame:
    """Return the columns of a user's CSV file, with the column `path` as the index.

    Args:
        path: the CSV file.
        images: [N] paths in the predictions.

    Raises:
        EvaluationTableError: if the file cannot be read, has no column `path`, repeats a path, or contains none of the
            images.
    """
    try:
        table = pd.read_csv(path, dtype={"path": str})
        # In a text column, `NA` or `None` can be a real value, such as a region. Only empty cells count as missing.
        texts = pd.read_csv(path, dtype=str, keep_default_na=False, na_values=[""])
    except (OSError, ValueError) as error:  # pandas' ParserError is a ValueError
        raise EvaluationTableError(
            [f"evaluation.slice_attributes: {path} is not a CSV file ({error}) → correct the path or the file"]
        ) from error
    table = table.assign(**{name: texts[name] for name in table.columns if table[name].dtype == object})
    if "path" not in table.columns or table["path"].duplicated().any():
        problem = "repeated paths" if "path" in table.columns else f"no column path, only {', '.join(table.columns)}"
        raise EvaluationTableError(
            [
                f"evaluation.slice_attributes: {path} has {problem} → write one row per image, with a column `path` "
                "that contains the paths as in the predictions"
            ]
        )
    if not table["path"].isin(images).any():
        raise EvaluationTableError(
            [
                f"evaluation.slice_attributes: {path} contains none of the {len(images)} evaluated images, such as "
                f"{images[0]} → write the paths as in the predictions"
            ]
        )
    return table.set_index("path")


def compute_slices(table: PredictionTable, attributes: pd.DataFrame) -> pd.DataFrame:
    """Return the accuracy of each slice and of the other images, the significantly worse slices first.

    Each slice is compared with the other images that have a value for the attribute, using a one-sided Fisher's exact
    test. The p-values are adjusted over all slices with the Benjamini-Hochberg procedure (1995), so that on average, at
    most 5% of the slices marked as worse are marked by chance.

    Args:
        table: the predictions.
        attributes: one column per attribute, with the path as the index. Images without a value are ignored.

    Returns:
        A table with the columns `SLICE_COLUMNS`. Accuracies are fractions in 0..1, with Wilson's 95% intervals.
    """
    values = attributes.reindex(table.paths)
    rows = [row for name in values.columns for row in _slices_of(str(name), values[name], table.is_top1)]
    slices = pd.DataFrame(rows, columns=["attribute", "slice", "images", "hits", "all_images", "all_hits"])
    images, hits = slices["images"].to_numpy(float), slices["hits"].to_numpy(float)
    others = slices["all_images"] - slices["images"]
    slices["top1"] = hits / images
    slices["top1_low"], slices["top1_high"] = wilson_interval(hits, images)
    slices["rest_top1"] = (slices["all_hits"] - slices["hits"]) / others
    p_values = hypergeom.cdf(hits, slices["all_images"], slices["all_hits"], images)
    slices["p_value"] = false_discovery_control(np.clip(p_values, 0, 1)) if len(slices) else p_values
    slices["is_worse"] = slices["p_value"] <= FALSE_DISCOVERY_RATE
    slices["gap"] = slices["top1"] - slices["rest_top1"]
    slices = slices.sort_values(["is_worse", "gap"], ascending=[False, True], kind="stable", ignore_index=True)
    return slices[list(SLICE_COLUMNS)]


def _slices_of(name: str, values: pd.Series[Any], is_hit: np.ndarray[Any, Any]) -> list[tuple[object, ...]]:
    """Return the slices of an attribute that have enough images, or [] if there is only one slice."""
    groups = _group(values)
    known = groups.notna().to_numpy()
    frame = pd.DataFrame({"slice": groups[known].to_numpy(), "hit": is_hit[known]})
    if frame.empty:
        return []
    counts = frame.groupby("slice", sort=False)["hit"].agg(images="size", hits="sum")
    if len(counts) < 2:
        return []
    total, hits = len(frame), int(frame["hit"].sum())
    return [
        (name, str(one.Index), int(one.images), int(one.hits), total, hits)
        for one in counts.itertuples()
        if int(one.images) >= _MIN_IMAGES
    ]


def _group(values: pd.Series[Any]) -> pd.Series[Any]:
    """Return the name of each value's group: a range between quartiles, or the value itself."""
    is_number = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    if not is_number or values.nunique() <= _QUANTILES:
        floats = list({value for value in values.dropna().tolist() if isinstance(value, float)})
        names_of = dict(zip(floats, _format_distinct(floats, 6), strict=True))
        texts = values.map(lambda value: names_of.get(value) or str(value), na_action="ignore")
        return texts if texts.nunique() <= _MAX_VALUES else pd.Series(np.nan, index=values.index)
    edges = np.unique(values.dropna().quantile(np.linspace(0, 1, _QUANTILES + 1)).to_numpy())
    names = np.array(
        [f"{low} to {high}" for low, high in itertools.pairwise(_format_distinct(edges.tolist(), 4))], dtype=object
    )
    # A range excludes its lower end, except for the first range.
    bins = np.clip(np.searchsorted(edges, values.to_numpy(dtype=np.float64)) - 1, 0, len(names) - 1)
    return pd.Series(names[bins], index=values.index).where(values.notna())


def _format_distinct(numbers: Sequence[float], digits: int) -> list[str]:
    """Format distinct numbers with `digits` significant digits, or with more if two results would be the same."""
    for precision in range(digits, 17):
        texts = [f"{number:.{precision}g}" for number in numbers]
        if len(set(texts)) == len(texts) and not any("e+" in text for text in texts):
            return texts
    return [f"{number:.17g}" for number in numbers]
