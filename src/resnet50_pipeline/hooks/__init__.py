"""Implements the project's Kedro hooks: working folder, checks, progress, MLflow tracking and the final summary.

Importing this package is fast: MLflow and other heavy libraries are imported only after the first checks.
"""

from resnet50_pipeline.hooks.full_lists import FullListHooks
from resnet50_pipeline.hooks.preflight import PreflightHooks
from resnet50_pipeline.hooks.progress import ProgressHooks
from resnet50_pipeline.hooks.project import ProjectHooks
from resnet50_pipeline.hooks.summary import SummaryHooks
from resnet50_pipeline.hooks.tracking import TrackingHooks

__all__ = ["FullListHooks", "PreflightHooks", "ProgressHooks", "ProjectHooks", "SummaryHooks", "TrackingHooks"]
