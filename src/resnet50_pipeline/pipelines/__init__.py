"""Contains one Kedro pipeline per stage. The pipelines do not import each other."""
