"""Checks within seconds that the machine, dataset and configuration are fit for a run. Writes no files."""
