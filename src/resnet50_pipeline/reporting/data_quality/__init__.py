"""Finds wrong labels and weaknesses of the model, such as slices with low accuracy, for the evaluation report."""
