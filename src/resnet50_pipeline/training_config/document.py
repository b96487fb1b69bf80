"""A whole configuration file, written and read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, SerializerFunctionWrapHandler, ValidationError, model_serializer

from resnet50_pipeline.exceptions import TrainingConfigError
from resnet50_pipeline.training_config.base import Section
from resnet50_pipeline.training_config.input_pipeline import DataLoaderConfig, InferConfig
from resnet50_pipeline.training_config.optimization import (
    AMPConfig,
    EMAConfig,
    LossConfig,
    MetricConfig,
    OptimizerConfig,
)
from resnet50_pipeline.training_config.run import ArchConfig, GlobalConfig


class TrainingConfig(Section):
    """A whole file."""

    Global: GlobalConfig
    AMP: AMPConfig | None = None
    EMA: EMAConfig | None = None
    Arch: ArchConfig
    Loss: LossConfig
    Optimizer: OptimizerConfig = Field(discriminator="name")
    DataLoader: DataLoaderConfig
    Infer: InferConfig
    Metric: MetricConfig

    @model_serializer(mode="wrap")
    def _without_absent_sections(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Upstream takes EMA to be wanted wherever the key is, whatever its value (ppcls/engine/engine.py).
        return {name: section for name, section in serialize(self).items() if section is not None}

    def to_yaml(self) -> str:
        """Return the file's text; sections in PaddleClas' order, every value written out."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def parse_training_config(text: str, source: str) -> TrainingConfig:
    """Return the configuration that a YAML text holds; `source` names it in errors.

    Raises:
        TrainingConfigError: the text is no YAML, or keys or values are not supported (all are named).
    """
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise TrainingConfigError(f"{source}: not a YAML file: {error}") from error
    try:
        return TrainingConfig.model_validate(content)
    except ValidationError as error:
        findings = "\n".join(
            f"{source}: {'.'.join(map(str, finding['loc']))}: {finding['msg']} (found {finding['input']!r:.80})"
            for finding in error.errors(include_url=False)
        )
        raise TrainingConfigError(findings) from error


def read_training_config(path: Path) -> TrainingConfig:
    """Return the configuration in a file.

    Raises:
        TrainingConfigError: the file is missing, or its content is not supported.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TrainingConfigError(f"{path}: cannot be read: {error}") from error
    return parse_training_config(text, str(path))
