"""Tracks runs and registers models in MLflow. This is the only package that imports mlflow."""

import os

# MLflow reads these variables when it is imported. Its log records go through the project's logging (conf/logging.yml).
# Short timeouts are sufficient, because the outbox and the curve writer retry failed requests later.
for _variable, _value in {
    "MLFLOW_CONFIGURE_LOGGING": "false",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # When a run ends, MLflow would print its address, which may contain a password.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}.items():
    os.environ.setdefault(_variable, _value)
