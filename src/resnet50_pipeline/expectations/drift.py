"""Measures how the distributions of a dataset or of predictions differ from a reference.

A shift is measured by the population stability index, `sum((q - p) * ln(q / p))`, where p and q are the fractions of
the reference and of the current data in each bin. An index below 0.1 means no shift, and an index above 0.25 a major
shift (Siddiqi 2006, "Credit Risk Scorecards"). Two samples of n and m rows from the same distribution have an index of
about `(1 / n + 1 / m) * chi2(bins - 1)` (Yurdakul and Naranjo 2020, "Statistical properties of the population stability
index"). A shift must therefore also exceed the 99.9th percentile of this distribution. Without this rule, 1,000 classes
with a few images each would always appear to have shifted.

The features of a network have thousands of dimensions. A classifier that is trained to separate the two samples
reduces them to one number per image, which is compared like any other column (Lopez-Paz and Oquab 2017, "Revisiting
Classifier Two-Sample Tests").
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import chi2, ks_2samp, wasserstein_distance

from resnet50_pipeline.exceptions import DatasetError
from resnet50_pipeline.imagenet.scan.manifest import select_listed
from resnet50_pipeline.text import pluralize

SMALL, MAJOR = 0.1, 0.25
_BINS = 10
# Columns that only identify the images. They are not compared.
_IDENTITY = ["path", "sha256"]
_SIGNIFICANCE = 0.999
# Added to each count, so that the index of an empty bin is finite.
_PSEUDO_COUNT = 0.5
# Number of cross-validation folds in `compare_features`, and the inverse regularization strength of its classifier.
_FOLDS = 5
_C = 0.001
_SIZES = ("width", "height", "bytes")
# Content measures, which are missing from older manifests.
_CONTENT = ("brightness_p5", "brightness_p99", "entropy", "sharpness")


@dataclass(frozen=True)
class Shift:
    """Difference between the reference and the current data in one column.

    Attributes:
        column: name of the column.
        psi: population stability index, 0 or more.
        bound: index that two samples of these sizes stay below with a probability of 99.9% if there is no shift.
        distance: Kolmogorov-Smirnov statistic for numbers, or total variation distance for categories, 0..1.
        wasserstein: Wasserstein distance in standard deviations of the reference; None for categories, and if all
            reference values are equal.
        reference: median or most frequent category of the reference.
        current: median or most frequent category of the current data.
    """

    column: str
    psi: float
    bound: float
    distance: float
    wasserstein: float | None
    reference: float | str
    current: float | str

    @property
    def size(self) -> str:
        """`none`, `small` or `major`."""
        if self.psi <= max(SMALL, self.bound):
            return "none"
        return "major" if self.psi > MAJOR else "small"


@dataclass(frozen=True)
class ImageFeatures:
    """The pooled features of a sample of images.

    Attributes:
        features: float32 [N, channels].
        contents: [N] digest of each image file.
    """

    features: NDArray[np.float32]
    contents: list[str]


def describe_images(manifest: pd.DataFrame) -> pd.DataFrame:
    """Return a table of the values to compare, with one row per readable image in a manifest's lists.

    Like the tables of predictions, it also has the columns `path` and `sha256` (empty if unknown), which are not
    compared.
    """
    images = select_listed(manifest)
    images = images[images["status"] == "ok"]
    table = {name: images[name].to_numpy(np.float64) for name in _SIZES}
    height = np.maximum(table["height"], 1)
    table["aspect ratio"] = np.where(table["height"] > 0, table["width"] / height, 0.0)
    table |= {name: images[name].to_numpy(np.float64) for name in _CONTENT if name in images.columns}
    # Compare class folders if there are any, because a different dataset may number the classes differently.
    synsets, labels = images["synset"].astype(str), images["label"].astype(str)
    names: dict[str, Any] = {"class": synsets.where(synsets != "", labels).to_numpy(object)}
    names["format"] = images["format"].astype(str).to_numpy(object)
    return pd.DataFrame(
        table | names | {"path": images["path"].to_numpy(), "sha256": images["sha256"].fillna("").to_numpy()}
    )


def describe_predictions(predictions: pd.DataFrame) -> pd.DataFrame:
    """Return the predicted class and the confidence for each row of a predictions table."""
    return pd.DataFrame(
        {
            "predicted class": [str(ids[0]) for ids in predictions["top5_ids"]],
            "confidence": [float(one[0]) for one in predictions["top5_probabilities"]],
            "path": predictions["path"].to_numpy(),
            "sha256": "",
        }
    )


def describe_answers(answers: list[dict[str, Any]]) -> pd.DataFrame:
    """Return the predicted class and the confidence for each line of `kedro predict --json`, except error lines."""
    answers = [answer for answer in answers if answer["status"] == 200]
    best = [answer["predictions"][0] for answer in answers]
    return pd.DataFrame(
        {
            "predicted class": [str(one["id"]) for one in best],
            "confidence": [float(one["probability"]) for one in best],
            "path": [str(answer["path"]) for answer in answers],
            "sha256": "",
        }
    )


def compare_tables(reference: pd.DataFrame, current: pd.DataFrame) -> list[Shift]:
    """Compare the columns that both tables have.

    Values that are not finite, such as the brightness of images that a scan did not decode, are ignored. Columns
    without values in one of the tables are skipped.

    Raises:
        DatasetError: if no column can be compared.
    """
    shifts = []
    for column in reference.columns.intersection(current.columns, sort=False).drop(_IDENTITY, errors="ignore"):
        first, second = (_drop_missing(table[column]) for table in (reference, current))
        if len(first) and len(second):
            compare = _compare_numbers if first.dtype == np.float64 else _compare_categories
            shifts.append(compare(str(column), first, second))
    if not shifts:
        raise DatasetError(
            "the two tables have no values to compare → choose two data versions, or two sets of predictions"
        )
    return shifts


def compare_features(reference: ImageFeatures, current: ImageFeatures) -> Shift:
    """Compare the pooled features of two samples of images.

    A logistic regression is trained to separate the samples. By cross-validation, each image is assigned the
    probability that it comes from the current sample, and the distributions of these probabilities are compared.

    Raises:
        DatasetError: if a sample has fewer than 5 different images.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    for sample in (reference, current):
        if (different := len(set(sample.contents))) < _FOLDS:
            raise DatasetError(
                f"the features of {pluralize(different, 'image')} cannot be compared → choose at least {_FOLDS} "
                "different images"
            )
    probabilities = cross_val_predict(
        make_pipeline(StandardScaler(), LogisticRegression(C=_C, class_weight="balanced", max_iter=1000)),
        np.concatenate([reference.features, current.features]),
        np.repeat([0, 1], [len(reference.contents), len(current.contents)]),
        # Keep copies in the same fold. Otherwise, the classifier would recognize a copy of a training image and assign
        # it to the sample of that image.
        groups=pd.factorize(np.array(reference.contents + current.contents))[0],
        cv=StratifiedGroupKFold(_FOLDS, shuffle=True, random_state=0),
        method="predict_proba",
    )[:, 1]
    first, second = np.split(probabilities, [len(reference.contents)])
    shift = _compare_numbers("features", first, second)
    # A classifier that is worse than chance has learned nothing that generalizes. This happens if both samples contain
    # the same images in different encodings.
    return shift if second.mean() > first.mean() else replace(shift, psi=0.0)


def _drop_missing(column: pd.Series[Any]) -> NDArray[Any]:
    values = column.to_numpy()
    return values[np.isfinite(values)] if values.dtype == np.float64 else values


def _compare_numbers(column: str, first: NDArray[np.float64], second: NDArray[np.float64]) -> Shift:
    # Derive the bins from both samples, so that they differ even if all reference values are equal.
    edges = np.unique(np.quantile(np.concatenate([first, second]), np.linspace(0, 1, _BINS + 1)[1:-1]))
    bins = len(edges) + 1
    counts = [np.bincount(np.searchsorted(edges, values), minlength=bins) for values in (first, second)]
    spread = float(first.std())
    return Shift(
        column,
        *_measure(*counts),
        distance=float(ks_2samp(first, second, method="asymp").statistic),
        wasserstein=float(wasserstein_distance(first, second)) / spread if spread else None,
        reference=float(np.median(first)),
        current=float(np.median(second)),
    )


def _compare_categories(column: str, first: NDArray[np.object_], second: NDArray[np.object_]) -> Shift:
    codes, names = pd.factorize(np.concatenate([first, second]))
    counts = [np.bincount(part, minlength=len(names)) for part in (codes[: len(first)], codes[len(first) :])]
    shares = [count / count.sum() for count in counts]
    return Shift(
        column,
        *_measure(*counts),
        distance=float(np.abs(shares[0] - shares[1]).sum() / 2),
        wasserstein=None,
        reference=str(names[counts[0].argmax()]),
        current=str(names[counts[1].argmax()]),
    )


def _measure(first: NDArray[np.int64], second: NDArray[np.int64]) -> tuple[float, float]:
    """Return the population stability index of two histograms, and the upper bound without a shift (see `Shift`)."""
    is_used = (first + second) > 0
    counts = [count[is_used] for count in (first, second)]
    smooth = [(count + _PSEUDO_COUNT) / (count.sum() + _PSEUDO_COUNT * len(count)) for count in counts]
    psi = float(((smooth[1] - smooth[0]) * np.log(smooth[1] / smooth[0])).sum())
    bound = float(chi2.ppf(_SIGNIFICANCE, max(len(counts[0]) - 1, 1)) * sum(1 / count.sum() for count in counts))
    return psi, bound
