"""Tracks runs and registers models in MLflow. This is the only package that imports mlflow."""

import os

# MLflow reads these variables on import. Logging is configured by the project itself (conf/logging.yml). Timeouts can
# be short, because the outbox and the curve writer retry failed requests.
for _variable, _value in {
    "MLFLOW_CONFIGURE_LOGGING": "false",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # At the end of a run, MLflow prints the run's URL, which may contain a password.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}.items():
    os.environ.setdefault(_variable, _value)
