"""Measures the cost of tracking: `python benchmarks/tracking.py [--check] [--only PART …]`.

- `stage`: a `kedro run` of one node that does nothing (Kedro, plugins, MLflow client, a run in a SQLite store). Each
  stage of `dvc repro` has this fixed cost. Also prints the packages that take the longest to import.
- `sqlite`, `server`: the sample's events are uploaded every five seconds, as during training, and the CPU time of
  client and server is compared with the duration of training. Then 100,000 events are replayed.

Prints one line per target: `target | measured | bound | met`. With --check, the exit code is 1 if a target is missed.
"""

from __future__ import annotations

import os
import sys

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

from targets import measure_parts
from tracking_stage import measure_stage
from tracking_uploads import measure_server, measure_sqlite

if __name__ == "__main__":
    parts = {"stage": measure_stage, "sqlite": measure_sqlite, "server": measure_server}
    sys.exit(measure_parts(__doc__ or "", parts))
