"""Makes the MLflow run of a `kedro run` a child of this process's run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Literal

from resnet50_pipeline.tracking.parent import (
    KIND_VARIABLE,
    NAME_VARIABLE,
    RUN_NAME_VARIABLE,
    SESSION_VARIABLE,
    TAGS_VARIABLE,
)
from resnet50_pipeline.tracking.runs import TrackedRun


def child_environment(
    parent: TrackedRun, kind: Literal["sweep", "folds"], title: str, name: str, tags: Mapping[str, str]
) -> dict[str, str]:
    """Return the environment variables that make a `kedro run` a child run.

    Args:
        parent: the run of this process, which reports its own results and end.
        kind: program that starts the child runs.
        title: last part of the parent's name.
        name: last part of the child's name, such as `trial 3`.
        tags: tags of the child run.
    """
    return {
        SESSION_VARIABLE: parent.session,
        KIND_VARIABLE: kind,
        NAME_VARIABLE: title,
        RUN_NAME_VARIABLE: name,
        TAGS_VARIABLE: json.dumps(dict(tags)),
    }
