"""Runs hyperparameter sweeps. For each trial, Optuna chooses values and a `kedro run` trains with them.

This is the only package that imports Optuna, which is an optional dependency.
"""

from resnet50_pipeline.exceptions import ParameterError

try:
    import optuna
except ModuleNotFoundError as error:
    raise ParameterError(
        f"a sweep requires Optuna, and {error.name} is not installed → `pip install 'resnet50-pipeline[sweep]'`, or "
        f"in the project folder: pip install -e '.[sweep]'"
    ) from error

optuna.logging.disable_default_handler()
optuna.logging.enable_propagation()
optuna.logging.set_verbosity(optuna.logging.WARNING)
