"""The PaddleClas YAML schema, as typed models: rendered by the control plane, read by the ranks.

    Global:
      device: gpu
      epochs: 120
      …
    Arch: {name: ResNet50, class_num: 1000, pretrained: false}

Key by key the schema of `ppcls/configs/ImageNet/ResNet/ResNet50.yaml` (release/2.6). Keys that upstream ignores and
only the native trainer reads are marked *native*. A key that is not written down here is refused by name.
"""

from resnet50_pipeline.training_config.base import Section
from resnet50_pipeline.training_config.document import TrainingConfig, parse_training_config, read_training_config
from resnet50_pipeline.training_config.input_pipeline import (
    DataLoaderConfig,
    DatasetConfig,
    InferConfig,
    LoaderConfig,
    PostProcessConfig,
    SamplerConfig,
    SplitConfig,
)
from resnet50_pipeline.training_config.optimization import (
    AdamWConfig,
    AMPConfig,
    CELossConfig,
    Cosine,
    EMAConfig,
    Linear,
    LossConfig,
    LossItem,
    MetricConfig,
    MetricItem,
    MomentumConfig,
    MultiLabelLossConfig,
    OptimizerConfig,
    Piecewise,
    Regularizer,
    TopkAccConfig,
)
from resnet50_pipeline.training_config.run import ArchConfig, GlobalConfig

__all__ = [
    "AMPConfig",
    "AdamWConfig",
    "ArchConfig",
    "CELossConfig",
    "Cosine",
    "DataLoaderConfig",
    "DatasetConfig",
    "EMAConfig",
    "GlobalConfig",
    "InferConfig",
    "Linear",
    "LoaderConfig",
    "LossConfig",
    "LossItem",
    "MetricConfig",
    "MetricItem",
    "MomentumConfig",
    "MultiLabelLossConfig",
    "OptimizerConfig",
    "Piecewise",
    "PostProcessConfig",
    "Regularizer",
    "SamplerConfig",
    "Section",
    "SplitConfig",
    "TopkAccConfig",
    "TrainingConfig",
    "parse_training_config",
    "read_training_config",
]
