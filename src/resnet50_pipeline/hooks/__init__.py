"""What this project adds to a Kedro run: where it stands, what it checks first, what MLflow is told, what it prints.

Importing it costs nothing: MLflow and everything else that is heavy comes after the checks.
"""

from resnet50_pipeline.hooks.full_lists import FullListHooks
from resnet50_pipeline.hooks.preflight import PreflightHooks
from resnet50_pipeline.hooks.progress import ProgressHooks
from resnet50_pipeline.hooks.project import ProjectHooks
from resnet50_pipeline.hooks.summary import SummaryHooks
from resnet50_pipeline.hooks.tracking import TrackingHooks

__all__ = ["FullListHooks", "PreflightHooks", "ProgressHooks", "ProjectHooks", "SummaryHooks", "TrackingHooks"]
