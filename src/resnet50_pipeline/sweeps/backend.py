"""Builds Optuna's database, sampler and pruner from `params:sweep`."""

from __future__ import annotations

import zlib

from optuna.pruners import BasePruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import RDBStorage

from resnet50_pipeline.exceptions import ParameterError
from resnet50_pipeline.parameters import SweepParameters

_LOCK_TIMEOUT_SECONDS = 60.0
_PRUNERS: dict[str, type[BasePruner]] = {
    "median": MedianPruner,
    "successive_halving": SuccessiveHalvingPruner,
    "none": NopPruner,
}


def open_storage(parameters: SweepParameters) -> RDBStorage:
    """Open Optuna's database, and create it if it does not exist.

    The default is a SQLite file in the study's folder, which survives SIGKILL: the kernel releases the locks of the
    killed process, and SQLite rolls back unfinished transactions.

    Raises:
        ParameterError: if the database cannot be opened.
    """
    path = parameters.folder / "study.db"
    try:
        if parameters.storage is not None:
            return RDBStorage(parameters.storage)
        path.parent.mkdir(parents=True, exist_ok=True)
        return RDBStorage(
            f"sqlite:///{path.resolve()}", engine_kwargs={"connect_args": {"timeout": _LOCK_TIMEOUT_SECONDS}}
        )
    except Exception as error:  # errors from SQLAlchemy, the driver and Optuna have no common base class
        cause = str(error.__cause__ or error).splitlines()[0]
        raise ParameterError(
            f"{'sweep.storage' if parameters.storage else path}: Optuna cannot open its database "
            f"({type(error).__name__}: {cause}) → set sweep.storage to a URL that works, such as "
            f"postgresql+psycopg2://user@host/optuna, or to null for a SQLite file"
        ) from error


def make_sampler(parameters: SweepParameters, number: int) -> BaseSampler:
    """Return the sampler of trial `number`.

    Each trial has its own seed. With a shared seed, a resumed sweep would sample the same values again.
    """
    seed = zlib.crc32(f"{parameters.seed} {number}".encode())
    if parameters.sampler.name == "random":
        return RandomSampler(seed=seed)
    options = parameters.sampler.model_dump(exclude={"name"})
    return TPESampler(seed=seed, constant_liar=True, **options)  # constant_liar: parallel trials get different values


def make_pruner(parameters: SweepParameters) -> BasePruner:
    """Return Optuna's pruner for `sweep.pruner`."""
    return _PRUNERS[parameters.pruner.name](**parameters.pruner.model_dump(exclude={"name"}))
