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

import argparse
import tempfile
from pathlib import Path

import evaluation_accuracy
import evaluation_forward
import evaluation_report
import evaluation_serving
from targets import Target, report

PARTS = {
    "forward": evaluation_forward.measure,
    "report": evaluation_report.measure,
    "accuracy": evaluation_accuracy.measure,
    "serving": evaluation_serving.measure,
}


def main() -> int:
    """Measure, print, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="exit with 1 when a target does not hold")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="parts to measure")
    options = parser.parse_args()
    targets: list[Target] = []
    for part in options.only:
        with tempfile.TemporaryDirectory(prefix=f"evaluation-{part}-") as folder:
            targets += PARTS[part](Path(folder))
    return report(targets, is_checked=options.check)


if __name__ == "__main__":
    raise SystemExit(main())
