"""Optuna's database: a SQLite file in the study's folder, or the one that `sweep.storage` names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from resnet50_pipeline.exceptions import ParameterError
from resnet50_pipeline.parameters import SweepParameters
from resnet50_pipeline.sweeps.optional import import_optuna

if TYPE_CHECKING:
    import optuna

_WAIT_SECONDS = 60.0


def database_of(parameters: SweepParameters) -> Path:
    """Return the SQLite file of a study without a `storage` of its own."""
    return parameters.folder / "study.db"


def open_storage(parameters: SweepParameters) -> optuna.storages.RDBStorage:
    """Return the database, which is made if it is not there.

    SQLite's locks end with their process, and a transaction that was cut off never was: it survives SIGKILL.

    Raises:
        ParameterError: it does not answer, or is none.
    """
    storages = import_optuna().storages
    database = database_of(parameters)
    try:
        if parameters.storage is None:
            database.parent.mkdir(parents=True, exist_ok=True)
            arguments = {"connect_args": {"timeout": _WAIT_SECONDS}}
            storage: optuna.storages.RDBStorage = storages.RDBStorage(
                f"sqlite:///{database.resolve()}", engine_kwargs=arguments
            )
        else:
            storage = storages.RDBStorage(parameters.storage)
    except Exception as error:  # of SQLAlchemy, a driver or Optuna: there is no class that all of them share
        cause = str(error.__cause__ or error).splitlines()[0]
        where = database if parameters.storage is None else "sweep.storage"
        raise ParameterError(
            f"{where}: Optuna cannot use it as its database ({type(error).__name__}: {cause}) → name one that answers, "
            f"as postgresql+psycopg2://user@host/optuna, or null for a SQLite file"
        ) from error
    return storage
