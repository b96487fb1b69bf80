"""Measures evaluation, report and serving: `python benchmarks/evaluation.py [--check] [--only PART …]`.

Each of the four parts measures its reference in the same run:

- `forward`: images/s of an end-to-end evaluation on one CPU rank, compared with the bare network's forward pass on the
  same batches in memory. Also prints the rate of one DataLoader worker alone, which limits every evaluation.
- `report`: time and peak memory for the metrics, plots, report and model card of 50,000 predictions with 1,000 classes,
  measured in a separate process; the size of the report; and the slowest click in it, if Chromium is installed.
- `accuracy`: top-1 and top-5 on 1, 2 and 3 ranks, compared with scikit-learn's `top_k_accuracy_score` for the same
  network. The length of the list is not a multiple of 2 or 3.
- `serving`: median latency of one image with `mlflow models serve`, compared with the predictor alone. Also prints the
  shares of HTTP (the time of /ping), of decoding and preprocessing, and of MLflow's JSON and schema check.

Prints one line per target: `target | measured | bound | met`. With --check, the exit code is 1 if a target is missed.
"""

from __future__ import annotations

import sys

import evaluation_accuracy
import evaluation_forward
import evaluation_report
import evaluation_serving
from targets import measure_parts

PARTS = {
    "forward": evaluation_forward.measure,
    "report": evaluation_report.measure,
    "accuracy": evaluation_accuracy.measure,
    "serving": evaluation_serving.measure,
}


if __name__ == "__main__":
    sys.exit(measure_parts(__doc__, PARTS))
