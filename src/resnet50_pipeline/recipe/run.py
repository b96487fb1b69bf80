"""Models for the `Global` and `Arch` sections of the YAML file, and for the corresponding parameters."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from resnet50_pipeline.frozen_model import FiniteModel
from resnet50_pipeline.recipe.yaml_form import in_order, without_none


class Run(FiniteModel):
    """Keys that `params:training` and the `Global` section share."""

    save_interval: int = Field(default=1, ge=1, description="Epochs between two checkpoint sets.")
    save_interval_steps: int = Field(
        default=0,
        ge=0,
        description="*native*: steps between two checkpoint sets within an epoch. 0: save only after epochs.",
    )
    eval_interval: int = Field(default=1, ge=1, description="Epochs between two evaluations.")
    epochs: int = Field(ge=1, description="Number of passes over the train list.")
    print_batch_step: int = Field(default=10, ge=1, description="Steps between two train_step events.")
    to_static: bool = Field(
        default=False,
        description="Whether to compile the network to a static program. The results are bit-identical, unless feature "
        "maps have 2 to 4 pixels, which happens only with images smaller than 65 pixels.",
    )
    update_freq: int = Field(
        default=1,
        ge=1,
        description="Number of batches per optimizer step. Their gradients are accumulated, so the number of images "
        "per step is multiplied by this value.",
    )
    seed: int = Field(
        default=0,
        ge=0,
        le=2**64 - 1,
        description="Seed for the initial weights, the order of images and the augmentation.",
    )
    best_metric: Literal["top1", "balanced_accuracy"] = Field(
        default="top1",
        description="*native*: accuracy on the val list that determines the best checkpoint. balanced_accuracy: mean "
        "of the per-class accuracies, for a val list whose classes differ in size.",
    )
    patience: int | None = Field(
        default=None,
        ge=1,
        description="*native*: early stopping: number of epochs without a new best checkpoint after which the run "
        "ends, checked at evaluations. The run counts as finished, and its best checkpoint is kept. null: train all "
        "epochs.",
    )
    keep_checkpoints: int = Field(
        default=2, ge=1, description="*native*: number of recent checkpoint sets to keep in addition to the best one."
    )


class GlobalConfig(Run):
    """The `Global` section of the YAML file."""

    yaml_order: ClassVar = (
        *("checkpoints", "pretrained_model", "output_dir", "device", "save_interval", "save_interval_steps"),
        *("eval_during_train", "eval_interval", "epochs", "print_batch_step", "use_visualdl", "image_shape"),
        *("save_inference_dir", "to_static", "use_dali"),
    )

    checkpoints: str | None = Field(default=None, description="Checkpoint set to resume from.")
    pretrained_model: str | None = Field(
        default=None,
        description="Local weights to start from: a .pdparams file, a .safetensors file or a checkpoint set.",
    )
    output_dir: str = Field(description="Training folder.")
    device: str = Field(description="Paddle's name for the device.")
    eval_during_train: Literal[True] = True
    use_visualdl: Literal[False] = False
    image_shape: tuple[int, int, int] = Field(description="Channels, height and width of evaluation images.")
    save_inference_dir: str = Field(description="Folder for PaddleClas' export.")
    use_dali: bool = Field(
        default=False, description="Whether NVIDIA DALI decodes and crops training images on the GPU."
    )

    @model_serializer(mode="wrap")
    def _in_order_of_paddleclas(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values = without_none(serialize(self), ("patience",))
        if self.best_metric == "top1":
            del values["best_metric"]
        return in_order(values, *self.yaml_order)


class Arch(FiniteModel):
    """The network: a class from `ppcls.arch`."""

    name: str = Field(default="ResNet50", description="Name of a class from the ResNet family in ppcls.arch.")
    data_format: Literal["NCHW", "NHWC"] = Field(
        default="NCHW",
        description="Memory layout inside the network. NHWC is faster for AMP on tensor cores. Batches and the "
        "exported model's input stay NCHW.",
    )
    lr_mult_list: tuple[float, float, float, float, float] = Field(
        default=(1.0, 1.0, 1.0, 1.0, 1.0),
        description="Learning rate factors for the stem and the four stages. The factor for the head is always 1.",
    )
    zero_init_residual: bool = Field(
        default=False,
        description="*native*: initialize the last BN scale of each block with 0 (Goyal et al. 2017, section 5.1).",
    )
    batch_norm_momentum: float = Field(
        default=0.9,
        gt=0,
        lt=1,
        description="*native*: weight of the old running statistics (Paddle's convention).",
    )
    freeze: tuple[str, ...] = Field(
        default=(),
        description="*native*: patterns with the wildcards * and ? for the names of layers to freeze, such as `stem` "
        "or `blocks.[0-5]`. Their weights and BatchNorm statistics do not change during the run, or until thaw_epoch.",
    )

    thaw_epoch: int | None = Field(
        default=None,
        ge=2,
        description="*native*: first epoch in which the layers in freeze are trained too. Until then, only the other "
        "layers, such as the head, are trained. null: the layers stay frozen.",
    )

    @model_validator(mode="after")
    def _require_frozen_layers(self) -> Self:
        if self.thaw_epoch is not None and not self.freeze:
            raise ValueError(
                f"thaw_epoch is {self.thaw_epoch}, but freeze is empty; set freeze to the layers to freeze until then"
            )
        return self

    @model_validator(mode="after")
    def _require_positive_factors(self) -> Self:
        if min(self.lr_mult_list) <= 0:
            raise ValueError(
                f"lr_mult_list must contain positive factors, but is {list(self.lr_mult_list)}; to keep layers "
                f"unchanged, use freeze"
            )
        return self


class ArchConfig(Arch):
    """The `Arch` section of the YAML file: the network's class and its arguments."""

    name: str
    class_num: int = Field(description="Number of classes.")
    pretrained: Literal[False] = Field(
        default=False,
        description="Never true, because PaddleClas would then download weights. See `Global.pretrained_model`.",
    )

    @model_serializer(mode="wrap")
    def _in_order_of_paddleclas(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return in_order(without_none(serialize(self), ("thaw_epoch",)), "name", "class_num", "pretrained")
