"""`Global` and `Arch`: the run and its network."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from resnet50_pipeline.training_config.base import Section


class GlobalConfig(Section):
    """`Global`."""

    checkpoints: str | None = Field(default=None, description="Checkpoint set to go on from.")
    pretrained_model: None = None
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
