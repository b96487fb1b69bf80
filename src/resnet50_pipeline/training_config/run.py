"""`Global` and `Arch`: the run and its network."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from resnet50_pipeline.training_config.base import Section


class GlobalConfig(Section):
    """`Global`."""

    checkpoints: str | None = Field(default=None, description="Checkpoint set to go on from.")
    pretrained_model: str | None = Field(
        default=None, description="Local weights to start from: a .pdparams, a .safetensors or a checkpoint set."
    )
    output_dir: str
    device: str
    save_interval: int
    save_interval_steps: int = Field(
        default=0, description="*native*: steps between two sets inside an epoch; 0: none."
    )
    eval_during_train: Literal[True] = True
    eval_interval: int
    epochs: int
    print_batch_step: int
    use_visualdl: Literal[False] = False
    image_shape: tuple[int, int, int]
    save_inference_dir: str
    to_static: bool = Field(default=False, description="Train the network as one compiled program.")
    use_dali: bool = Field(default=False, description="Decode and crop train images on the GPU, with NVIDIA DALI.")
    update_freq: int = Field(default=1, ge=1, description="Batches whose gradients are added up for one step.")
    seed: int
    keep_checkpoints: int = Field(default=2, description="*native*: newest checkpoint sets that stay.")


class ArchConfig(Section):
    """`Arch`: the arguments of a class of `ppcls.arch`."""

    name: str
    class_num: int
    pretrained: Literal[False] = False
    data_format: Literal["NCHW", "NHWC"] = Field(
        default="NCHW", description="Layout inside the network; batches and the exported model's input stay NCHW."
    )
    lr_mult_list: tuple[float, float, float, float, float] = Field(
        default=(1.0, 1.0, 1.0, 1.0, 1.0), description="Factors of the rate: stem, and the four stages; the head has 1."
    )
    zero_init_residual: bool = Field(default=False, description="*native*: last BN scale of each block starts at 0.")
    batch_norm_momentum: float = Field(default=0.9, description="*native*: weight of the old running statistics.")
    freeze: tuple[str, ...] = Field(
        default=(),
        description="*native*: layers that stay as they are, by name with * and ?: `stem`, `blocks.[0-5]`. Their "
        "BatchNorm normalizes with its running statistics, which stay too.",
    )

    @model_validator(mode="after")
    def _keep_the_direction(self) -> Self:
        if min(self.lr_mult_list) <= 0:
            raise ValueError(
                f"lr_mult_list must be positive: {list(self.lr_mult_list)}; to hold layers fast, use freeze"
            )
        return self
