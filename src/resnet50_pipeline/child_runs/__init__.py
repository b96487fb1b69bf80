"""Starts `kedro run` several times, as child runs of one MLflow run. Sweeps and cross-validation use it."""
