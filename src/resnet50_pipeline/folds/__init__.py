"""Cross-validates with one `kedro run` per fold, and collects the mean and spread in one MLflow run."""
