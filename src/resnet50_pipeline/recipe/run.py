"""The `Global` and `Arch` sections of the YAML file, and the corresponding parameters."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from resnet50_pipeline.frozen_model import FiniteModel
from resnet50_pipeline.recipe.yaml_form import in_order, without_none


class Run(FiniteModel):
    """Keys shared by `params:training` and the `Global` section."""

    save_interval: int = Field(default=1, ge=1, description="Epochs between checkpoint sets.")
    save_interval_steps: int = Field(
        default=0,
        ge=0,
        description="*native*: steps between checkpoint sets within an epoch. 0: save only after epochs.",
    )
    eval_interval: int = Field(default=1, ge=1, description="Epochs between evaluations.")
    epochs: int = Field(ge=1, description="Number of passes over the train list.")
    print_batch_step: int = Field(default=10, ge=1, description="Steps between train_step events.")
    to_static: bool = Field(
        default=False,
        description="Whether to compile the network to a static program. The results are bit-identical unless feature "
        "maps have 2 to 4 pixels, which happens only with images smaller than 65 pixels.",
    )
    update_freq: int = Field(
        default=1,
        ge=1,
        description="Number of batches whose gradients are accumulated per optimizer step.",
    )
    virtual_ranks: int | None = Field(
        default=None,
        ge=1,
        description="*native*: number of parts into which a step is divided. Images, BatchNorm statistics and random "
        "numbers depend on the part, and gradients are added in a fixed order. The weights are therefore the same with "
        "1, 2, 4, … ranks, up to the largest power of two that divides this number; batch_size_per_rank and "
        "update_freq then apply to each part. If null, or if the ranks cannot share the parts: one part per rank.",
    )
    deterministic_reduction: bool | None = Field(
        default=None,
        description="*native*: whether virtual_ranks must determine the order in which gradients are added. true: a "
        "run whose ranks cannot share the virtual ranks fails. false: the order depends on the ranks, which saves "
        "time with more than two ranks but changes the last bits of the weights. null: true if the ranks can share "
        "the virtual ranks.",
    )
    update_ratios: bool = Field(
        default=False,
        description="*native*: whether to report the update-to-weight ratio of each network stage. Every "
        "print_batch_step steps, the weights are copied on the device to compute the ratios.",
    )
    profile_steps: tuple[int, int] | None = Field(
        default=None,
        description="*native*: first and last step to profile, counted from 1 since training started. Rank 0 writes "
        "`profile/trace.json` (Chrome trace) and `profile/operators.txt` to the training folder. null: no profile.",
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
        "of the per-class accuracies, for classes of different sizes.",
    )
    patience: int | None = Field(
        default=None,
        ge=1,
        description="*native*: number of epochs without a new best checkpoint after which training stops early. The "
        "number is checked at each evaluation, and the run counts as finished. null: train all epochs.",
    )
    replica_check_interval: Annotated[int, Field(ge=0)] | Literal["epoch"] | None = Field(
        default="epoch",
        description="*native*: steps between comparisons of the ranks' weights and optimizer states, which detect "
        "silent data corruption. epoch: compare them only after each epoch and before each checkpoint set. A number: "
        "also each time this number of steps has passed. null or 0: never.",
    )
    keep_checkpoints: int = Field(
        default=2, ge=1, description="*native*: number of recent checkpoint sets to keep in addition to the best one."
    )
    record_margins: bool = Field(
        default=False,
        description="*native*: whether to record the margin of each training image (logit of its label minus the "
        "largest other logit), averaged over training, in training/margins.parquet. Wrong labels have low margins "
        "(area under the margin, Pleiss et al. 2020). Does not affect the weights. Not available with mixed images.",
    )

    @field_validator("profile_steps")
    @classmethod
    def _require_range_of_steps(cls, steps: tuple[int, int] | None) -> tuple[int, int] | None:
        if steps is not None and not 1 <= steps[0] <= steps[1]:
            raise ValueError(f"profile_steps is {list(steps)}; set [first, last] with 1 <= first <= last")
        return steps


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
        optional = ("patience", "virtual_ranks", "deterministic_reduction", "profile_steps")
        values = without_none(serialize(self), optional)
        for name in ("best_metric", "replica_check_interval", "update_ratios", "record_margins"):
            if values[name] == GlobalConfig.model_fields[name].default:
                del values[name]
        return in_order(values, *self.yaml_order)


class Arch(FiniteModel):
    """The network: a class from `ppcls.arch`."""

    name: str = Field(default="ResNet50", description="Name of a class from the ResNet family in ppcls.arch.")
    data_format: Literal["NCHW", "NHWC"] = Field(
        default="NCHW",
        description="Memory layout inside the network. NHWC is faster with AMP on tensor cores. Batches and the input "
        "of the exported model stay NCHW.",
    )
    lr_mult_list: tuple[float, float, float, float, float] = Field(
        default=(1.0, 1.0, 1.0, 1.0, 1.0),
        description="Learning rate factors for the stem and the four stages. The factor for the head is always 1.",
    )
    zero_init_residual: bool = Field(
        default=False,
        description="*native*: initialize the last BatchNorm scale of each block to 0 (Goyal et al. 2017, section "
        "5.1).",
    )
    batch_norm_momentum: float = Field(
        default=0.9,
        gt=0,
        lt=1,
        description="*native*: weight of the old running statistics (Paddle's convention).",
    )
    freeze: tuple[str, ...] = Field(
        default=(),
        description="*native*: names of the layers to freeze, such as `stem` or `blocks.[0-5]`, with wildcards * and "
        "?. Their weights and BatchNorm statistics do not change until thaw_epoch, if set.",
    )

    thaw_epoch: int | None = Field(
        default=None,
        ge=2,
        description="*native*: first epoch that also trains the layers in freeze. Until then, only the other layers, "
        "such as the head, are trained. null: the layers stay frozen.",
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
                f"lr_mult_list must contain positive factors, but is {list(self.lr_mult_list)}; to freeze layers, use "
                f"freeze"
            )
        return self


class ArchConfig(Arch):
    """The `Arch` section of the YAML file: the network's class and its arguments."""

    name: str
    class_num: int = Field(description="Number of classes.")
    pretrained: Literal[False] = Field(
        default=False,
        description="Always false, because true makes PaddleClas download weights. See `Global.pretrained_model`.",
    )

    @model_serializer(mode="wrap")
    def _in_order_of_paddleclas(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return in_order(without_none(serialize(self), ("thaw_epoch",)), "name", "class_num", "pretrained")
