"""Checks within seconds whether a run can succeed with this machine, dataset and configuration. Writes no files."""
