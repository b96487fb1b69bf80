"""Runs the training engine of a PaddleClas checkout."""
