"""Kedro's project settings: the hooks, how `conf/` is read, and that nothing reports home."""

import os
import warnings
from pathlib import Path
from typing import Any

from kedro.framework.context import KedroContext
from kedro.utils import find_kedro_project

from resnet50_pipeline.hooks import (
    FullListHooks,
    PreflightHooks,
    ProgressHooks,
    ProjectHooks,
    SummaryHooks,
    TrackingHooks,
)
from resnet50_pipeline.pipeline_registry import select_environment
from resnet50_pipeline.recipes import RecipeConfigLoader

# Here, for Kedro imports this module before any plugin's hook runs, whoever starts the session.
for _variable, _off in {
    "DO_NOT_TRACK": "true",
    "KEDRO_DISABLE_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "GX_ANALYTICS_ENABLED": "false",
}.items():
    os.environ.setdefault(_variable, _off)

# Kedro 1.7 calls what omegaconf 2.4 renamed; there is nothing that a user can do about it.
warnings.filterwarnings("ignore", message=r"\s*register_new_resolver\(\) is deprecated", category=UserWarning)


class ProjectContext(KedroContext):
    """Tells the registry the session's environment; a hook would not do, for Kedro-Viz runs without hooks."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        select_environment(self.env)


CONTEXT_CLASS = ProjectContext
CONFIG_LOADER_CLASS = RecipeConfigLoader
CONFIG_LOADER_ARGS = {
    "base_env": "base",
    "default_run_env": "local",
    # An environment states only what differs. Kedro's default replaces a whole group, and then `--params group.key=…`
    # loses the rest of every group of which the environment has no file of its own.
    "merge_strategy": {"parameters": "soft"},
}
HOOKS = (ProjectHooks(), PreflightHooks(), FullListHooks(), ProgressHooks(), TrackingHooks(), SummaryHooks())
DISABLE_HOOKS_FOR_PLUGINS: tuple[str, ...] = ("kedro-telemetry",)
if find_kedro_project(Path.cwd()) is None:
    # An installed package, where Kedro-Viz would warn that there is no project to write its statistics to.
    DISABLE_HOOKS_FOR_PLUGINS += ("kedro-viz",)
