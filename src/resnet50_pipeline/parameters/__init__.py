"""Defines each `params:` group of `conf/` as a frozen model that rejects unknown keys.

Nodes annotate their arguments with these models, so Kedro validates all groups before the first node runs. For a
mistyped key or an out-of-range value, the error names the field. The parts of `training` that belong to a recipe are
defined in `resnet50_pipeline.recipe`.
"""

from resnet50_pipeline.parameters.base import Group, read_group
from resnet50_pipeline.parameters.data_preparation import DataPreparationParameters, ShardParameters
from resnet50_pipeline.parameters.dataset import (
    DatasetParameters,
    DataValidationParameters,
    SampleDataParameters,
    ScanParameters,
)
from resnet50_pipeline.parameters.evaluation import EvaluationParameters, is_registered_reference
from resnet50_pipeline.parameters.launch import LaunchParameters
from resnet50_pipeline.parameters.logs import LogParameters
from resnet50_pipeline.parameters.registration import GateParameters, ModelRegistrationParameters
from resnet50_pipeline.parameters.sweep import SearchRange, SweepParameters
from resnet50_pipeline.parameters.tracking import TrackingParameters
from resnet50_pipeline.parameters.training import RUN_SETTINGS, TrainingParameters

__all__ = [
    "RUN_SETTINGS",
    "DataPreparationParameters",
    "DataValidationParameters",
    "DatasetParameters",
    "EvaluationParameters",
    "GateParameters",
    "Group",
    "LaunchParameters",
    "LogParameters",
    "ModelRegistrationParameters",
    "SampleDataParameters",
    "ScanParameters",
    "SearchRange",
    "ShardParameters",
    "SweepParameters",
    "TrackingParameters",
    "TrainingParameters",
    "is_registered_reference",
    "read_group",
]
