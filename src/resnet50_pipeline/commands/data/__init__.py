"""Commands that find and fix problems in a dataset, one per module."""
