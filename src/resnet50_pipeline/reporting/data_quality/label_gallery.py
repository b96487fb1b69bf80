"""Shows images with suspicious labels: label issues in predictions, and training images with low margins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from resnet50_pipeline.reporting.classes import ClassNames
from resnet50_pipeline.reporting.thumbnails import make_thumbnails
from resnet50_pipeline.text import pluralize

MAX_SHOWN = 24
"""Maximum number of images in each gallery."""
# The galleries then take up only a small part of the report's 8 MB.
_MAX_CHARACTERS = 400_000


@dataclass(frozen=True)
class SuspectImage:
    """An image in a gallery.

    Attributes:
        path: path relative to the dataset root, or absolute.
        image: WebP file in base64, or "" if the image cannot be shown.
        given: name of the current class.
        suggested: name of the suggested class, or "" if there is none.
        detail: the reason in a few words.
    """

    path: str
    image: str
    given: str
    suggested: str
    detail: str


@dataclass(frozen=True)
class LabelGallery:
    """The images with the most suspicious labels, and a summary sentence."""

    sentence: str
    images: tuple[SuspectImage, ...]


def describe_label_issues(issues: pd.DataFrame, splits: Sequence[str], image_root: Path) -> LabelGallery:
    """Return the gallery for a table from `tabulate_label_issues`.

    Args:
        issues: the table.
        splits: splits of the images in which issues were searched for; "" for `evaluation.image_list`.
        image_root: folder that the relative paths are relative to.
    """
    counts = issues["split"].value_counts()
    names = {split: split or "listed" for split in splits}
    if issues.empty:
        text = f"Confident learning found no wrong labels among the {' and '.join(names.values())} images."
    else:
        found = " and ".join(
            f"{counts[split]:,} of the {name} images" for split, name in names.items() if split in counts
        )
        verb = "has a wrong label" if len(issues) == 1 else "have wrong labels"
        text = f"According to confident learning, {found} probably {verb}."
    shown = issues.head(MAX_SHOWN)
    details = [
        f"{one.suggested_probability:.0%} instead of {one.label_probability:.0%}, {names[str(one.split)]}"
        for one in shown.itertuples()
    ]
    return LabelGallery(
        text + _limit(len(issues)),
        _illustrate(shown, image_root, shown["given_class"].tolist(), shown["suggested_class"].tolist(), details),
    )


def describe_low_margins(margins: pd.DataFrame, names: ClassNames, image_root: Path) -> LabelGallery | None:
    """Return the gallery with the training images that have the lowest margins.

    Args:
        margins: table with the columns `path`, `label`, `margin` and `passes`.
        names: names of the classes.
        image_root: folder that the paths are relative to.

    Returns:
        None if no training image has a margin.
    """
    measured = margins[margins["passes"] > 0]
    if measured.empty:
        return None
    negative = int((measured["margin"] < 0).sum())
    text = (
        f"{negative:,} of {pluralize(len(measured), 'training image')} {'has' if negative == 1 else 'have'} a negative "
        "margin: on average over the training run, the network preferred a different class."
    )
    shown = measured.sort_values("margin", kind="stable").head(MAX_SHOWN)
    given = [names.labels[label] for label in shown["label"]]
    details = [f"margin {margin:+.2f}" for margin in shown["margin"]]
    return LabelGallery(text + _limit(len(measured)), _illustrate(shown, image_root, given, [""] * len(shown), details))


def _limit(images: int) -> str:
    return f" The {MAX_SHOWN} most suspicious are shown." if images > MAX_SHOWN else ""


def _illustrate(
    table: pd.DataFrame, image_root: Path, given: list[str], suggested: list[str], details: list[str]
) -> tuple[SuspectImage, ...]:
    paths = [str(path) for path in table["path"]]
    files = {row: image_root / path for row, path in enumerate(paths)}
    images = make_thumbnails(files, _MAX_CHARACTERS).images
    return tuple(
        SuspectImage(path, images.get(row, ""), given[row], suggested[row], details[row])
        for row, path in enumerate(paths)
    )
