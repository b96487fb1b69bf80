"""Builds the addresses of pages in MLflow's UI, and defines the view in which an experiment opens.

MLflow 3 shows an experiment as a list of LLM traces, unless the address or the experiment's kind indicates that its
runs train models. As with MLflow's own "Share view", a tag of the experiment stores the columns of the run list.
"""

from __future__ import annotations

import json
from urllib.parse import quote

LOCAL_SERVER = "http://127.0.0.1:5000"
"""Default address of `kedro ui`."""
_VIEW, _MODE = "training", "?workflowType=machine_learning"
_COLUMNS = (
    *("metrics.`evaluation/top1`", "metrics.`val/loss`", "params.`training.lr.learning_rate`"),
    *("tags.`recipe`", "tags.`data_digest`"),
)
EXPERIMENT_TAGS = {
    "mlflow.experimentKind": "custom_model_development",
    f"mlflow.sharedViewState.{_VIEW}": json.dumps({"selectedColumns": _COLUMNS, "hideEmptyCharts": True}),
}
"""Tags of an experiment whose runs train models."""
NOTE_TAG = "mlflow.note.content"
"""Tag with the description of a run or an experiment, in Markdown."""


def runs_page(experiment_id: str) -> str:
    """Return the path of an experiment's run list, with columns for accuracy, loss, learning rate, recipe and data."""
    return f"/#/experiments/{experiment_id}/runs{_MODE}&viewStateShareKey={_VIEW}"


def run_page(experiment_id: str, run_id: str) -> str:
    """Return the path of a run's page."""
    return f"/#/experiments/{experiment_id}/runs/{run_id}{_MODE}"


def artifact_page(experiment_id: str, run_id: str, artifact: str) -> str:
    """Return the path of the page that shows one of a run's artifacts."""
    return f"/#/experiments/{experiment_id}/runs/{run_id}/artifacts/{quote(artifact)}{_MODE}"


def version_page(name: str, version: int) -> str:
    """Return the path of a model version's page."""
    return f"/#/models/{quote(name, safe='')}/versions/{version}{_MODE}"
