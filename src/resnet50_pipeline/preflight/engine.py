"""Checks that the PaddleClas engine has its checkout and supports the recipe."""

from __future__ import annotations

from collections.abc import Iterator

from resnet50_pipeline.exceptions import ParameterError, TrainingConfigError
from resnet50_pipeline.preflight.findings import Finding
from resnet50_pipeline.preflight.plan import RunPlan


def check_engine(plan: RunPlan) -> Iterator[Finding]:
    """Check the PaddleClas engine early. The `train_network` node would report the same errors, but much later."""
    if plan.training.engine == "native":
        return
    from resnet50_pipeline.paddleclas.upstream.train import check_engine as require_engine

    needed = "a checkout of release/2.6 and a recipe that it supports"
    try:
        checkout = require_engine(plan.training_config(), plan.training)
    except (ParameterError, TrainingConfigError) as error:
        found = "PaddleClas cannot train this recipe"
        yield Finding("engine", "blocking", found, needed, " ".join(str(error).split()))
        return
    yield Finding("engine", "ok", f"PaddleClas in {checkout.home}", needed)
