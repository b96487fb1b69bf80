"""The engine of PaddleClas itself: that its checkout is there, and that the recipe is one for it."""

from __future__ import annotations

from collections.abc import Iterator

from resnet50_pipeline.exceptions import ParameterError, TrainingConfigError
from resnet50_pipeline.preflight.findings import Finding
from resnet50_pipeline.preflight.plan import RunPlan


def check_engine(plan: RunPlan) -> Iterator[Finding]:
    """What `train_network` would refuse only when its turn has come."""
    if plan.training.engine == "native":
        return
    from resnet50_pipeline.paddleclas.upstream_train import check_engine as require_engine

    needed = "a checkout of release/2.6, and a recipe that it knows"
    try:
        checkout = require_engine(plan.training_config(), plan.training)
    except (ParameterError, TrainingConfigError) as error:
        found = "PaddleClas itself cannot train this"
        yield Finding("engine", "blocking", found, needed, " ".join(str(error).split()))
        return
    yield Finding("engine", "ok", f"PaddleClas in {checkout.home}", needed)
