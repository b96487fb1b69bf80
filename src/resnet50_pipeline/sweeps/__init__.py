"""Hyper-parameter sweeps: Optuna chooses values, and each trial is a `kedro run` of its own.

The only room that imports Optuna.
"""
