"""Starts several `kedro run` commands as child runs of one MLflow run, for sweeps and cross-validation."""
