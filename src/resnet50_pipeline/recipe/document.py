"""Reads and writes complete PaddleClas YAML files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import SerializerFunctionWrapHandler, ValidationError, model_serializer

from resnet50_pipeline.exceptions import TrainingConfigError
from resnet50_pipeline.frozen_model import FiniteModel
from resnet50_pipeline.recipe.data_loader import DataLoaderConfig, InferConfig
from resnet50_pipeline.recipe.losses import LossConfig, MetricConfig
from resnet50_pipeline.recipe.optimization import OptimizerConfig
from resnet50_pipeline.recipe.precision import AMPConfig, EMAConfig
from resnet50_pipeline.recipe.run import ArchConfig, GlobalConfig
from resnet50_pipeline.recipe.yaml_form import without_none


class TrainingConfig(FiniteModel):
    """A PaddleClas YAML file with all its sections."""

    Global: GlobalConfig
    AMP: AMPConfig | None = None
    EMA: EMAConfig | None = None
    Arch: ArchConfig
    Loss: LossConfig
    Optimizer: OptimizerConfig
    DataLoader: DataLoaderConfig
    Infer: InferConfig
    Metric: MetricConfig

    @model_serializer(mode="wrap")
    def _without_absent_sections(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Upstream enables EMA if the key exists, even if its value is null (ppcls/engine/engine.py).
        return without_none(serialize(self), ("AMP", "EMA"))

    def to_yaml(self) -> str:
        """Return the YAML text, with sections in PaddleClas' order and default values."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def parse_training_config(text: str, source: str) -> TrainingConfig:
    """Parse YAML text. Error messages refer to it as `source`.

    Raises:
        TrainingConfigError: if the text is not YAML, or contains unsupported keys or values; the message lists all of
            them.
    """
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise TrainingConfigError(f"{source} is not a YAML file: {error}") from error
    try:
        return TrainingConfig.model_validate(content)
    except ValidationError as error:
        findings = "\n".join(
            f"{source}: {'.'.join(map(str, finding['loc']))}: {finding['msg']} (found {finding['input']!r:.80})"
            for finding in error.errors(include_url=False)
        )
        raise TrainingConfigError(findings) from error


def read_training_config(path: Path) -> TrainingConfig:
    """Read a YAML file.

    Raises:
        TrainingConfigError: if the file cannot be read, is not YAML, or contains unsupported keys or values.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TrainingConfigError(f"{path} cannot be read: {error}") from error
    return parse_training_config(text, str(path))
