"""Cross-validates: one `kedro run` trains and evaluates each fold, and one MLflow run contains the mean and spread."""
