"""Runs hyperparameter sweeps, in which Optuna suggests values and a `kedro run` per trial trains with them.

This is the only package that imports Optuna, which is an optional dependency.
"""

from resnet50_pipeline.exceptions import ParameterError

try:
    import optuna
except ModuleNotFoundError as error:
    raise ParameterError(
        f"sweeps require Optuna, but {error.name} is not installed → run `pip install 'resnet50-pipeline[sweep]'`, or "
        "`pip install -e '.[sweep]'` in the project folder"
    ) from error

optuna.logging.disable_default_handler()
optuna.logging.enable_propagation()
optuna.logging.set_verbosity(optuna.logging.WARNING)
