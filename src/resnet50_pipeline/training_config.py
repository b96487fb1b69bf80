"""The PaddleClas YAML schema, as typed models: rendered by the control plane, read by the ranks.

    Global:
      device: gpu
      epochs: 120
      …
    Arch: {name: ResNet50, class_num: 1000, pretrained: false}

Key by key the schema of `ppcls/configs/ImageNet/ResNet/ResNet50.yaml` (release/2.6). Keys that upstream ignores and
only the native trainer reads are marked *native*. A key that is not written down here is refused by name.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_serializer

from resnet50_pipeline.exceptions import TrainingConfigError
from resnet50_pipeline.imaging.operators import TransformOp


class Section(BaseModel):
    """Frozen, and closed to unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class GlobalConfig(Section):
    """`Global`."""

    checkpoints: str | None = Field(default=None, description="Checkpoint set to go on from.")
    pretrained_model: None = None
    output_dir: str
    device: str
    save_interval: int
    eval_during_train: Literal[True] = True
    eval_interval: int
    epochs: int
    print_batch_step: int
    use_visualdl: Literal[False] = False
    image_shape: tuple[int, int, int]
    save_inference_dir: str
    to_static: Literal[False] = False
    seed: int
    keep_checkpoints: int = Field(default=2, description="*native*: newest checkpoint sets that stay.")


class ArchConfig(Section):
    """`Arch`: the arguments of a class of `ppcls.arch`."""

    name: str
    class_num: int
    pretrained: Literal[False] = False
    zero_init_residual: bool = Field(default=False, description="*native*: last BN scale of each block starts at 0.")
    batch_norm_momentum: float = Field(default=0.9, description="*native*: weight of the old running statistics.")


class CELossConfig(Section):
    """Cross entropy, with label smoothing where `epsilon` is given."""

    weight: float = Field(default=1.0, ge=1.0, le=1.0, description="The only loss there is.")
    epsilon: float | None = None


class LossItem(Section):
    """One item of a loss list."""

    CELoss: CELossConfig


class LossConfig(Section):
    """`Loss`."""

    Train: tuple[LossItem]
    Eval: tuple[LossItem]


class Piecewise(Section):
    """Constant rates between the ends of given epochs, after a linear warm-up."""

    name: Literal["Piecewise"]
    decay_epochs: tuple[int, ...]
    values: tuple[float, ...]
    warmup_epoch: int = 0
    warmup_start_lr: float = 0.0


class Cosine(Section):
    """Half a cosine from `learning_rate` to `eta_min`, after a linear warm-up."""

    name: Literal["Cosine"]
    learning_rate: float
    eta_min: float = 0.0
    warmup_epoch: int = 0
    warmup_start_lr: float = 0.0


class Regularizer(Section):
    """`coeff` times the weight is added to every gradient."""

    name: Literal["L2"]
    coeff: float


class OptimizerConfig(Section):
    """`Optimizer`."""

    name: Literal["Momentum"]
    momentum: float
    lr: Piecewise | Cosine = Field(discriminator="name")
    regularizer: Regularizer


class DatasetConfig(Section):
    """`DataLoader.*.dataset`: a folder, a list file, and what to do with each image."""

    name: Literal["ImageNetDataset"] = "ImageNetDataset"
    image_root: str
    cls_label_path: str
    transform_ops: tuple[TransformOp, ...]

    @field_serializer("transform_ops")
    def _as_mappings(self, ops: tuple[TransformOp, ...]) -> list[dict[str, Any]]:
        return [op.as_mapping() for op in ops]


class SamplerConfig(Section):
    """`DataLoader.*.sampler`."""

    name: Literal["DistributedBatchSampler"] = "DistributedBatchSampler"
    batch_size: int
    drop_last: bool = False
    shuffle: bool


class LoaderConfig(Section):
    """`DataLoader.*.loader`."""

    num_workers: int
    use_shared_memory: bool = True


class SplitConfig(Section):
    """`DataLoader.Train` or `DataLoader.Eval`."""

    dataset: DatasetConfig
    sampler: SamplerConfig
    loader: LoaderConfig


class DataLoaderConfig(Section):
    """`DataLoader`."""

    Train: SplitConfig
    Eval: SplitConfig


class PostProcessConfig(Section):
    """`Infer.PostProcess`."""

    name: Literal["Topk"] = "Topk"
    topk: int
    class_id_map_file: None = None


class InferConfig(Section):
    """`Infer`: what the exported model is fed with."""

    infer_imgs: str
    batch_size: int
    transforms: tuple[TransformOp, ...]
    PostProcess: PostProcessConfig

    @field_serializer("transforms")
    def _as_mappings(self, ops: tuple[TransformOp, ...]) -> list[dict[str, Any]]:
        return [op.as_mapping() for op in ops]


class TopkAccConfig(Section):
    """Accuracies of the best k guesses."""

    topk: tuple[int, ...]


class MetricItem(Section):
    """One item of a metric list."""

    TopkAcc: TopkAccConfig


class MetricConfig(Section):
    """`Metric`."""

    Train: tuple[MetricItem]
    Eval: tuple[MetricItem]


class TrainingConfig(Section):
    """A whole file."""

    Global: GlobalConfig
    Arch: ArchConfig
    Loss: LossConfig
    Optimizer: OptimizerConfig
    DataLoader: DataLoaderConfig
    Infer: InferConfig
    Metric: MetricConfig

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
