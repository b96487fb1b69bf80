"""Kedro's project settings: the hooks and the configuration loader."""

import warnings
from pathlib import Path
from typing import Any

from kedro.framework.context import KedroContext
from kedro.utils import find_kedro_project
from omegaconf.resolvers import oc

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

# Kedro 1.7 calls a function that omegaconf 2.4 deprecates. Users cannot fix this.
warnings.filterwarnings("ignore", message=r"\s*register_new_resolver\(\) is deprecated", category=UserWarning)


class ProjectContext(KedroContext):
    """Passes the session's environment to the pipeline registry.

    A hook would not work, because Kedro-Viz runs without hooks.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        select_environment(self.env)


CONTEXT_CLASS = ProjectContext
CONFIG_LOADER_CLASS = RecipeConfigLoader
CONFIG_LOADER_ARGS = {
    "base_env": "base",
    "default_run_env": "local",
    # Environments contain only values that differ from conf/base. With Kedro's default strategy, which replaces entire
    # groups, `--params group.key=…` would drop the other keys of groups that the environment does not define.
    "merge_strategy": {"parameters": "soft"},
    # Kedro allows ${oc.env:HOME} only in credentials.
    "custom_resolvers": {"oc.env": oc.env},
}
HOOKS = (ProjectHooks(), PreflightHooks(), FullListHooks(), ProgressHooks(), TrackingHooks(), SummaryHooks())
DISABLE_HOOKS_FOR_PLUGINS: tuple[str, ...] = ("kedro-telemetry",)
if find_kedro_project(Path.cwd()) is None:
    # In an installed package, Kedro-Viz warns that it cannot find a project for its statistics.
    DISABLE_HOOKS_FOR_PLUGINS += ("kedro-viz",)
