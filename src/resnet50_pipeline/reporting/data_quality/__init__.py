"""Finds wrong labels and groups of images on which the model fails, for the evaluation report."""
