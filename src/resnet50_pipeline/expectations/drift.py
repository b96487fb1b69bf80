"""Measures how the distributions of a dataset or of predictions differ from a reference.

The population stability index decides: `sum((q - p) * ln(q / p))` over the shares p and q of bins in the reference and
in the current data (Siddiqi 2006, "Credit Risk Scorecards": below 0.1 no shift, above 0.25 a major shift). Without any
shift, the index of samples with n and m rows is about `(1 / n + 1 / m) * chi2(bins - 1)` (Yurdakul and Naranjo 2020,
"Statistical properties of the population stability index"), so a shift also has to exceed the 99.9th percentile of
this distribution. Otherwise, 1,000 classes with a few images each would always differ.

The features of a network have thousands of dimensions. A classifier that separates the two samples reduces them to one
number per image, which is compared like any other column ("Revisiting Classifier Two-Sample Tests", Lopez-Paz and Oquab
2017).
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
# Columns that identify an image, which are not compared.
_IDENTITY = ["path", "sha256"]
_SIGNIFICANCE = 0.999
# Added to each count, so that the index of an empty bin is finite.
_PSEUDO_COUNT = 0.5
# Parts of the cross-validation in `compare_features`, and the inverse strength of its regularization.
_FOLDS = 5
_C = 0.001
_SIZES = ("width", "height", "bytes")
# Measures of the content, in manifests that have them.
_CONTENT = ("brightness_p5", "brightness_p99", "entropy", "sharpness")


@dataclass(frozen=True)
class Shift:
    """The difference of one column.

    Attributes:
        column: name of the column.
        psi: population stability index, 0 or more.
        bound: largest index that samples of these sizes reach without a shift, with a probability of 99.9%.
        distance: Kolmogorov-Smirnov statistic of numbers, or total variation distance of categories, 0..1.
        wasserstein: Wasserstein distance in standard deviations of the reference; None for categories, and if all
            numbers of the reference are equal.
        reference: median of the reference, or its most frequent category.
        current: the same of the current data.
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
    """Return the columns to compare for the readable images in a manifest's lists, one row per image.

    Like the other tables, it also has the columns `path` and `sha256` (empty if unknown), which are not compared.
    """
    images = select_listed(manifest)
    images = images[images["status"] == "ok"]
    table = {name: images[name].to_numpy(np.float64) for name in _SIZES}
    height = np.maximum(table["height"], 1)
    table["aspect ratio"] = np.where(table["height"] > 0, table["width"] / height, 0.0)
    table |= {name: images[name].to_numpy(np.float64) for name in _CONTENT if name in images.columns}
    # Labels may have another order in another dataset. Without class folders, there are only labels.
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
    """Return the predicted class and the confidence for each answer of `kedro predict --json`, without errors."""
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

    Values that are not finite, such as measures of images that a scan did not decode, are left out. A column without
    values in one of the tables is not compared.

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
        raise DatasetError("the two tables have no values to compare → choose two data versions or two predictions")
    return shifts


def compare_features(reference: ImageFeatures, current: ImageFeatures) -> Shift:
    """Compare the pooled features of two samples of images.

    The compared number is the probability that an image is from the current sample, according to a logistic regression
    that was not trained on this image.

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
        # Copies stay in one part. Otherwise, the classifier would learn the sample of one copy and assign the other
        # copy to the same sample.
        groups=pd.factorize(np.array(reference.contents + current.contents))[0],
        cv=StratifiedGroupKFold(_FOLDS, shuffle=True, random_state=0),
        method="predict_proba",
    )[:, 1]
    first, second = np.split(probabilities, [len(reference.contents)])
    shift = _compare_numbers("features", first, second)
    # A classifier that is worse than chance has learned nothing about other images. This happens if the samples contain
    # the same images in another encoding.
    return shift if second.mean() > first.mean() else replace(shift, psi=0.0)


def _drop_missing(column: pd.Series[Any]) -> NDArray[Any]:
    values = column.to_numpy()
    return values[np.isfinite(values)] if values.dtype == np.float64 else values


def _compare_numbers(column: str, first: NDArray[np.float64], second: NDArray[np.float64]) -> Shift:
    # Bins of the pooled values, so that they exist even if all images of the reference have the same size.
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
    """Return the population stability index of counts per bin, and the bound that chance reaches."""
    is_used = (first + second) > 0
    counts = [count[is_used] for count in (first, second)]
    smooth = [(count + _PSEUDO_COUNT) / (count.sum() + _PSEUDO_COUNT * len(count)) for count in counts]
    psi = float(((smooth[1] - smooth[0]) * np.log(smooth[1] / smooth[0])).sum())
    bound = float(chi2.ppf(_SIGNIFICANCE, max(len(counts[0]) - 1, 1)) * sum(1 / count.sum() for count in counts))
    return psi, bound
