"""Measures the search for wrong images and labels: `python benchmarks/data_quality.py [--check] [--only PART …]`.

- `scan`: the time that the difference hash and the scores of an image add to the full scan.
- `search`: time, memory and recall of the search for near-duplicates at ImageNet's size.
- `variants`: the variants of photographs that the difference hash finds, and the different images that it confuses.
  Downloads the Debian packages tuxpaint-stamps-default and dataset-fashion-mnist, and a wheel of scikit-image.
- `labels`: labels of handwritten digits are changed (5% and 10%, at random and to similar digits). Measures how well
  margins and confident learning find them, with three folds and three seeds. Takes about 30 minutes on one core. If the
  environment variable DATA_QUALITY_RESULTS is set to a file, finished runs are appended to it and not repeated.
- `margins`: the time that recording the margins adds to a training step.
- `explanation`: the time for heat maps, and for label issues and slices of 50,000 predictions.
- `drift`: the changes of digits that `kedro drift --model` finds, and its false alarms. Needs `kedro run` first.
- `review`: the time until the page of `kedro review` is interactive with 2,000 photographs, and the time from a key to
  the painted decision, in headless Chromium.

Prints one line per target: `target | measured | bound | met`. With --check, the exit code is 1 if a target is missed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import data_quality_drift
import data_quality_explanation
import data_quality_images
import data_quality_labels
import data_quality_review
import data_quality_variants
from targets import Target, measure_parts

# Each part gets a separate temporary folder.
PARTS: dict[str, Callable[[Path], list[Target]]] = {
    "scan": data_quality_images.measure_scan,
    "search": data_quality_images.measure_search,
    "variants": data_quality_variants.measure,
    "labels": data_quality_labels.measure_labels,
    "margins": data_quality_labels.measure_margins,
    "explanation": data_quality_explanation.measure,
    "drift": data_quality_drift.measure,
    "review": data_quality_review.measure,
}


if __name__ == "__main__":
    sys.exit(measure_parts(__doc__, PARTS))
