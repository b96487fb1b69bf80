"""Preprocesses images identically in training, evaluation and serving."""
