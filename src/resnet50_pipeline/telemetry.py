"""Turns off telemetry in Kedro, MLflow, DVC and Great Expectations, for this process and its child processes."""

from __future__ import annotations

import os
import sys

# Variables that the libraries read. Values set by the user are kept.
OFF = {
    "DO_NOT_TRACK": "true",
    "KEDRO_DISABLE_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DVC_NO_ANALYTICS": "1",
    "GX_ANALYTICS_ENABLED": "false",
}
_MLFLOW_CLIENT = "mlflow.telemetry.client"


def turn_off_telemetry() -> None:
    """Set the variables, and stop MLflow's telemetry client if MLflow is already imported.

    The package calls this function on import; see `kedro_init` for commands outside a project.
    """
    for variable, off in OFF.items():
        os.environ.setdefault(variable, off)
    # Programs that load a registered model have already imported MLflow, which reads the variables on import.
    client = sys.modules.get(_MLFLOW_CLIENT)
    if client is not None and hasattr(client, "set_telemetry_client"):
        client.set_telemetry_client()
