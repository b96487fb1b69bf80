"""Every `params:` group of `conf/`, as a frozen model that refuses keys it does not know.

Kedro builds these from the YAML before the first node runs (nodes name them in their annotations), so a
mistyped key or a value out of range stops the run with the field's path.
"""

from resnet50_pipeline.parameters.base import Group, ParameterModel, as_group
from resnet50_pipeline.parameters.data_preparation import DataPreparationParameters, ShardParameters
from resnet50_pipeline.parameters.dataset import (
    DatasetParameters,
    DataValidationParameters,
    SampleDataParameters,
    ScanParameters,
)
from resnet50_pipeline.parameters.evaluation import EvaluationParameters
from resnet50_pipeline.parameters.input_pipeline import (
    EvalTransformParameters,
    LoaderParameters,
    TrainTransformParameters,
)
from resnet50_pipeline.parameters.launch import LaunchParameters
from resnet50_pipeline.parameters.logs import LogParameters
from resnet50_pipeline.parameters.optimization import (
    AmpParameters,
    ArchParameters,
    LearningRateParameters,
    LossParameters,
    OptimizerParameters,
)
from resnet50_pipeline.parameters.registration import GateParameters, ModelRegistrationParameters
from resnet50_pipeline.parameters.sweep import Choices, FloatRange, IntegerRange, SamplerParameters, SweepParameters
from resnet50_pipeline.parameters.tracking import TrackingParameters
from resnet50_pipeline.parameters.training import RUN_SETTINGS, TrainingParameters

__all__ = [
    "RUN_SETTINGS",
    "AmpParameters",
    "ArchParameters",
    "Choices",
    "DataPreparationParameters",
    "DataValidationParameters",
    "DatasetParameters",
    "EvalTransformParameters",
    "EvaluationParameters",
    "FloatRange",
    "GateParameters",
    "Group",
    "IntegerRange",
    "LaunchParameters",
    "LearningRateParameters",
    "LoaderParameters",
    "LogParameters",
    "LossParameters",
    "ModelRegistrationParameters",
    "OptimizerParameters",
    "ParameterModel",
    "SampleDataParameters",
    "SamplerParameters",
    "ScanParameters",
    "ShardParameters",
    "SweepParameters",
    "TrackingParameters",
    "TrainTransformParameters",
    "TrainingParameters",
    "as_group",
]
