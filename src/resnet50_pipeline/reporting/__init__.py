"""Computes the metrics and draws the figures of an evaluation, and renders its report and model card."""
