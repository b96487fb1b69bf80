"""Optuna, which is an extra: one clear error where it is missing."""

from __future__ import annotations

from typing import Any

from resnet50_pipeline.exceptions import ParameterError


def import_optuna() -> Any:
    """Return Optuna, with its log in this project's.

    Raises:
        ParameterError: it is not installed.
    """
    try:
        import optuna
    except ModuleNotFoundError as error:
        raise ParameterError(
            f"a sweep needs Optuna, and {error.name} is not installed → `pip install 'resnet50-pipeline[sweep]'`, or "
            f"in the project's folder: pip install -e '.[sweep]'"
        ) from error
    optuna.logging.disable_default_handler()
    optuna.logging.enable_propagation()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
