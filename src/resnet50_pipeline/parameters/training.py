"""`training`: the recipe and where it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from resnet50_pipeline.parameters.base import ParameterModel
from resnet50_pipeline.parameters.input_pipeline import (
    EvalTransformParameters,
    LoaderParameters,
    TrainTransformParameters,
)
from resnet50_pipeline.parameters.launch import LaunchParameters
from resnet50_pipeline.parameters.optimization import (
    AmpParameters,
    ArchParameters,
    LearningRateParameters,
    LossParameters,
    OptimizerParameters,
)

# Where a training runs, what it tells and what it keeps; all else is what it is made of: the recipe.
RUN_SETTINGS = frozenset(
    {
        *("engine", "paddleclas_home", "output_dir", "resume", "seed", "pretrained_model", "to_static"),
        *("eval_batch_size_per_rank", "print_batch_step", "eval_interval"),
        *("save_interval", "save_interval_steps", "keep_checkpoints", "launch", "loader"),
    }
)


class TrainingParameters(ParameterModel):
    """`training`: the recipe and where it runs."""

    engine: Literal["native", "paddleclas"] = Field(
        default="native",
        description="native: our own loop on PaddleClas' networks; paddleclas: tools/train.py of a checkout.",
    )
    paddleclas_home: Path | None = Field(
        default=None, description="Checkout for engine paddleclas, branch release/2.6; PADDLECLAS_HOME unless given."
    )
    output_dir: Path = Field(description="Folder of events.jsonl, checkpoints and logs.")
    resume: bool | Literal["auto"] = Field(
        default=False,
        description="true: go on from the newest checkpoint set in output_dir; auto: do so where an unfinished run "
        "left one, otherwise start anew.",
    )
    seed: int = Field(default=0, ge=0, description="Of weights, order and augmentation.")
    epochs: int = Field(ge=1, description="Passes over the train list.")
    batch_size_per_rank: int = Field(ge=1, description="Images a rank and step.")
    eval_batch_size_per_rank: int = Field(ge=1, description="Images a rank and evaluation step.")
    print_batch_step: int = Field(default=10, ge=1, description="Steps between two train_step events.")
    eval_interval: int = Field(default=1, ge=1, description="Epochs between two evaluations.")
    save_interval: int = Field(default=1, ge=1, description="Epochs between two checkpoint sets.")
    save_interval_steps: int = Field(
        default=0, ge=0, description="Steps between two checkpoint sets inside an epoch; 0: only at epoch ends."
    )
    keep_checkpoints: int = Field(default=2, ge=1, description="Newest checkpoint sets that stay, besides the best.")
    label_smoothing: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Share of every target that is spread over all classes; epsilon of the loss.",
    )
    update_freq: int = Field(
        default=1,
        ge=1,
        description="Batches whose gradients make one step: the batch of a step is so many times larger.",
    )
    images_per_step: int | None = Field(
        default=None,
        ge=1,
        description="Images of one step of all ranks that lr is meant for; a run with other ranks or batches is "
        "refused. null: any number.",
    )
    ema_decay: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="Evaluate and export a moving average of the weights of this decay a step.",
    )
    to_static: bool = Field(default=False, description="Train the network as one compiled program.")
    pretrained_model: Path | None = Field(
        default=None,
        description="Weights to start from: a .pdparams, a .safetensors or a checkpoint set, on this machine. The head "
        "starts anew where it has another number of classes.",
    )
    launch: LaunchParameters
    arch: ArchParameters = ArchParameters()
    loss: LossParameters = LossParameters()
    optimizer: OptimizerParameters = OptimizerParameters()
    lr: LearningRateParameters
    amp: AmpParameters = AmpParameters()
    train_transform: TrainTransformParameters
    eval_transform: EvalTransformParameters
    loader: LoaderParameters = LoaderParameters()

    @model_validator(mode="after")
    def _warm_up_within_the_run(self) -> Self:
        if self.lr.warmup_epoch >= self.epochs and self.lr.warmup_epoch > 0:
            raise ValueError(f"lr.warmup_epoch {self.lr.warmup_epoch} must be below epochs {self.epochs}")
        return self

    @model_validator(mode="after")
    def _step_as_the_rate_is_meant(self) -> Self:
        images = self.batch_size_per_rank * self.launch.ranks * self.update_freq
        if self.images_per_step in (None, images) or self.launch.is_elastic:
            return self
        fitting, rest = divmod(self.images_per_step or 0, self.launch.ranks)
        advice = f"set training.batch_size_per_rank x update_freq to {fitting}, " if not rest else ""
        raise ValueError(
            f"images_per_step is {self.images_per_step}, but {self.launch.ranks} ranks x batch_size_per_rank "
            f"{self.batch_size_per_rank} x update_freq {self.update_freq} are {images}, and the learning rate would no "
            f"longer fit: {advice}or scale training.lr and set training.images_per_step=null"
        )

    @model_validator(mode="after")
    def _decode_where_dali_can(self) -> Self:
        if self.loader.use_dali and self.launch.device != "gpu":
            raise ValueError(
                f"loader.use_dali: DALI works on NVIDIA's GPUs, and launch.device is {self.launch.device}; "
                f"set it to false"
            )
        if self.loader.use_dali and self.train_transform.augment_ops:
            raise ValueError(
                "loader.use_dali: DALI crops, mirrors and normalizes here, and train_transform.augment_ops asks for "
                "more; set it to false"
            )
        return self

    @model_validator(mode="after")
    def _have_the_precision(self) -> Self:
        if not self.amp.use_amp:
            return self
        if self.launch.device == "cpu" and not self.amp.emulate_on_cpu:
            raise ValueError(
                "amp.use_amp: Paddle has no half precision for launch.device cpu, and would train in float32 without a "
                "word; set it to false, or amp.emulate_on_cpu to true for a rehearsal"
            )
        if self.launch.device != "cpu" and self.amp.emulate_on_cpu:
            raise ValueError(f"amp.emulate_on_cpu: launch.device is {self.launch.device}; set it to false")
        if self.to_static and self.amp.emulate_on_cpu:
            raise ValueError("amp.emulate_on_cpu works op by op; set to_static to false")
        if self.to_static and self.amp.level == "O2":
            raise ValueError("to_static takes amp.level O1: Paddle compiles O2 for half-precision weights only")
        return self
