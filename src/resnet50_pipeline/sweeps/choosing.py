"""How the values of the next trial are chosen, and which trials are given up: Optuna's own, by our parameters."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from resnet50_pipeline.parameters import SweepParameters
from resnet50_pipeline.parameters.sweep import HalvingPrunerParameters, MedianPrunerParameters
from resnet50_pipeline.sweeps.optional import import_optuna

if TYPE_CHECKING:
    import optuna


def make_sampler(parameters: SweepParameters, number: int) -> optuna.samplers.BaseSampler:
    """Return what chooses the values of trial `number`.

    Begun anew with each trial, and differently: a sweep that goes on would otherwise choose the first values again.
    """
    given, samplers = parameters.sampler, import_optuna().samplers
    seed = zlib.crc32(f"{parameters.seed} {number}".encode())
    sampler: optuna.samplers.BaseSampler
    if given.name == "random":
        sampler = samplers.RandomSampler(seed=seed)
    else:
        # constant_liar: trials that run side by side are not tried twice.
        sampler = samplers.TPESampler(
            seed=seed, n_startup_trials=given.n_startup_trials, multivariate=given.multivariate, constant_liar=True
        )
    return sampler


def make_pruner(parameters: SweepParameters) -> optuna.pruners.BasePruner:
    """Return what decides over giving a trial up."""
    given, pruners = parameters.pruner, import_optuna().pruners
    options = given.model_dump(exclude={"name"})
    pruner: optuna.pruners.BasePruner
    if isinstance(given, MedianPrunerParameters):
        pruner = pruners.MedianPruner(**options)
    elif isinstance(given, HalvingPrunerParameters):
        pruner = pruners.SuccessiveHalvingPruner(**options)
    else:
        pruner = pruners.NopPruner()
    return pruner


def describe_other_definition(study: str, known: Mapping[str, Any], given: Mapping[str, Any]) -> str:
    """Return why trials of two definitions are not of one study, value by value."""
    differences = [
        f"  {key}: {json.dumps(known.get(key))} there, {json.dumps(given.get(key))} here"
        for key in sorted(set(known) | set(given))
        if known.get(key) != given.get(key)
    ]
    return "\n".join(
        [
            f"the study {study} was begun with other values, and its trials could not be compared with new ones:",
            *differences,
            "→ name another one (sweep.study), or set them back",
        ]
    )
