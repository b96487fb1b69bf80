"""What tracking costs: `python benchmarks/tracking.py [--check] [--only PART …]`.

Parts, each a file beside this one:

- stage: a `kedro run` of one node that does nothing (Kedro, plugins, MLflow client, a run in a SQLite store), which is
  what each stage of `dvc repro` pays before its own work; prints what is imported for how long;
- sqlite, server: the sample's events as they come, looked at every five seconds as in a training: the processor time of
  client and server beside the duration of the training; and a replay of 100,000 events.

One line a target: `target | measured | bound | holds`. With --check the exit code is 1 when one does not hold.
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
