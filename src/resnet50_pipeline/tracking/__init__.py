"""What MLflow is told of a run, and how it stays true when a process or a server dies; the only importer of mlflow."""

import os

# Before `import mlflow`, which reads them once. Its log lines go through the project's logging (conf/logging.yml); a
# request gives up soon, for what could not be delivered is kept and tried again (outbox.py, curves.py).
for _variable, _value in {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_CONFIGURE_LOGGING": "false",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # It would print the address of each run that ends, with the password that may stand in a server's.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}.items():
    os.environ.setdefault(_variable, _value)
