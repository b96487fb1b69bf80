"""What evaluation, report and serving cost: `python benchmarks/evaluation.py [--check] [--only PART …]`.

Four parts, each with its measure in the same run:

- `forward`: images/s of an evaluation, end to end, on one CPU rank, against the bare network's forward rate on the very
  batches in memory, in turn; also the rate of a loader process alone, beyond which the loader is the bound (stated);
- `report`: metrics, pictures, report and card for 50,000 predictions of 1,000 classes: seconds and peak of memory of a
  process of its own;
- `accuracy`: top-1 and top-5 against scikit-learn's `top_k_accuracy_score` of the same network, on 1, 2 and 3 ranks,
  for a list whose length neither 2 nor 3 divides;
- `serving`: median latency of one image through `mlflow models serve` against the bare predictor in a process, and
  where the difference goes: HTTP (the time of /ping), decoding and preprocessing, MLflow's JSON and schema.

One line a target: `target | measured | bound | holds`. With --check the exit code is 1 when one does not hold.
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
