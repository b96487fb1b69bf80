"""Defines `training`: the recipe and the run settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from resnet50_pipeline.frozen_model import refuse_url
from resnet50_pipeline.parameters.evaluation import is_registered_reference
from resnet50_pipeline.parameters.launch import LaunchParameters
from resnet50_pipeline.parameters.step import divide_step
from resnet50_pipeline.recipe.loaders import Loader
from resnet50_pipeline.recipe.losses import CELoss, Loss
from resnet50_pipeline.recipe.optimization import Momentum, Optimizer, Schedule
from resnet50_pipeline.recipe.precision import Amp
from resnet50_pipeline.recipe.run import Arch, Run
from resnet50_pipeline.recipe.transforms import EvalTransform, TrainTransform
from resnet50_pipeline.text import pluralize

# Settings of the run, such as devices and checkpoint intervals. All other fields belong to the recipe.
RUN_SETTINGS = frozenset(
    {
        *("engine", "paddleclas_home", "resume", "seed", "pretrained_model", "pretrained_digest", "to_static"),
        *("eval_batch_size_per_rank", "print_batch_step", "eval_interval"),
        *("save_interval", "save_interval_steps", "keep_checkpoints", "launch", "loader"),
    }
)


class TrainingParameters(Run):
    """`training`: the recipe and the run settings."""

    engine: Literal["native", "paddleclas"] = Field(
        default="native",
        description="Training program. native: this project's training loop with PaddleClas' networks. paddleclas: "
        "tools/train.py of a PaddleClas checkout.",
    )
    paddleclas_home: Path | None = Field(
        default=None,
        description="Checkout of PaddleClas release/2.6 for engine: paddleclas. null: the value of PADDLECLAS_HOME.",
    )
    resume: bool | Literal["auto"] = Field(
        default=False,
        description="Whether to resume. true: resume from the newest checkpoint set. auto: resume if there is an "
        "unfinished run, and start from scratch otherwise. false: start from scratch.",
    )
    batch_size_per_rank: int = Field(
        ge=1, description="Images per rank and batch. If it is not set, it follows from images_per_step."
    )
    max_batch_size_per_rank: int | None = Field(
        default=None,
        ge=1,
        description="Maximum batch size that follows from images_per_step. Choose it for the memory of a device.",
    )
    eval_batch_size_per_rank: int = Field(ge=1, description="Images per rank and evaluation batch.")
    label_smoothing: float = Field(
        default=0.0, ge=0, lt=1, description="Share of each target that is distributed evenly over all classes."
    )
    images_per_step: int | None = Field(
        default=None,
        ge=1,
        description="Number of images per step (over all ranks) that the learning rate was chosen for. From it follow "
        "batch_size_per_rank and update_freq, if they are not set: each rank processes its share in as few batches of "
        "at most max_batch_size_per_rank images as possible. If both are set, a run with a different number of images "
        "fails. null: no check.",
    )
    ema_decay: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="Decay per step of a moving average of the weights. The average is evaluated and exported. null: "
        "no averaging.",
    )
    pretrained_model: Path | None = Field(
        default=None,
        description="Weights to start from: a local .pdparams file, .safetensors file or checkpoint set, the folder of "
        "an exported model, or a registered version (models:/name@champion, models:/name/3). If the number of classes "
        "differs, the head starts from random weights.",
    )
    pretrained_digest: str | None = Field(
        default=None,
        pattern=r"^(sha256:)?[0-9a-f]{64}$",
        description="SHA-256 digest of the weights file in pretrained_model, as printed by `sha256sum`. If the file "
        "does not match, the run fails. null: no check.",
    )
    launch: LaunchParameters
    arch: Arch = Arch()
    loss: Loss = CELoss()
    optimizer: Optimizer = Momentum()
    lr: Schedule
    amp: Amp = Amp()
    train_transform: TrainTransform
    eval_transform: EvalTransform
    loader: Loader = Loader()

    _refuse_urls = field_validator("pretrained_model", "paddleclas_home", mode="before")(refuse_url)

    def describe_step(self) -> str:
        """Return how a step is divided, such as "256 images per step: 4 ranks x 2 batches of 32 images"."""
        ranks, batches, size = self.launch.ranks, self.update_freq, self.batch_size_per_rank
        each = f"{pluralize(batches, 'batch', 'batches')} of {pluralize(size, 'image')}"
        return f"{pluralize(ranks * batches * size, 'image')} per step: {pluralize(ranks, 'rank')} x {each}"

    @model_validator(mode="before")
    @classmethod
    def _divide_images_per_step(cls, values: Any) -> Any:
        """Set the batch size and the accumulation if unset, so that a recipe works with any number of ranks."""
        keys = ("batch_size_per_rank", "update_freq")
        if not isinstance(values, dict) or not isinstance(values.get("images_per_step"), int):
            return values
        batch, batches = (values.get(key) for key in keys)
        most = batch or values.get("max_batch_size_per_rank")
        if batches is not None or not isinstance(most, int) or most < 1 or values["images_per_step"] < 1:
            return values  # nothing to derive, or a value that the field's validator rejects
        try:
            ranks = LaunchParameters.model_validate(values.get("launch")).ranks
        except ValidationError:
            return values  # the field reports the error
        if batch is None:
            batch, batches = divide_step(values["images_per_step"], ranks, most)
        else:
            batches = max(values["images_per_step"] // (ranks * batch), 1)
        return values | dict(zip(keys, (batch, batches), strict=True))

    @model_validator(mode="after")
    def _require_warmup_within_the_run(self) -> Self:
        if self.lr.warmup_epoch >= self.epochs and self.lr.warmup_epoch > 0:
            raise ValueError(f"lr.warmup_epoch {self.lr.warmup_epoch} must be less than epochs {self.epochs}")
        return self

    @model_validator(mode="after")
    def _require_images_per_step(self) -> Self:
        images = self.batch_size_per_rank * self.launch.ranks * self.update_freq
        if self.images_per_step in (None, images) or self.launch.is_elastic:
            return self
        fitting, rest = divmod(self.images_per_step or 0, self.launch.ranks)
        advice = f"set training.batch_size_per_rank x update_freq to {fitting}, " if not rest else ""
        raise ValueError(
            f"images_per_step is {self.images_per_step}, but {pluralize(self.launch.ranks, 'rank')} x "
            f"batch_size_per_rank {self.batch_size_per_rank} x update_freq {self.update_freq} = {images}, which does "
            f"not match the learning rate; {advice}or scale training.lr and set training.images_per_step=null"
        )

    @model_validator(mode="after")
    def _require_file_for_digest(self) -> Self:
        if self.pretrained_digest is not None and self.pretrained_model is None:
            raise ValueError("pretrained_digest is set, but pretrained_model is null; set both or neither")
        if self.pretrained_digest is not None and is_registered_reference(str(self.pretrained_model)):
            raise ValueError(
                f"pretrained_digest is for files, but pretrained_model is {self.pretrained_model}; set "
                f"pretrained_digest to null, and choose the version by its number, because a version never changes"
            )
        return self

    @model_validator(mode="after")
    def _require_thaw_support(self) -> Self:
        thaw_epoch = self.arch.thaw_epoch
        if thaw_epoch is not None and thaw_epoch > self.epochs:
            raise ValueError(
                f"arch.thaw_epoch {thaw_epoch} is above epochs {self.epochs}; set it to null to keep layers frozen"
            )
        if thaw_epoch is not None and self.to_static:
            raise ValueError(
                f"to_static is true and arch.thaw_epoch is {thaw_epoch}: a compiled network cannot thaw layers; set "
                f"to_static to false"
            )
        return self

    @model_validator(mode="after")
    def _require_one_compensation(self) -> Self:
        rule = self.loss.class_weights if isinstance(self.loss, CELoss) else None
        if self.loader.images_per_class is not None and isinstance(rule, str):
            raise ValueError(
                f"loss.class_weights is {rule} and loader.images_per_class is {self.loader.images_per_class}: both "
                f"compensate for the sizes of the classes, so rare classes would count twice; set one of them to null"
            )
        return self

    @model_validator(mode="after")
    def _require_dali_support(self) -> Self:
        if self.loader.use_dali and self.launch.device != "gpu":
            raise ValueError(
                f"loader.use_dali: DALI needs an NVIDIA GPU, but launch.device is {self.launch.device}; "
                f"set loader.use_dali to false"
            )
        if self.loader.use_dali and self.train_transform.augment_ops:
            names = ", ".join(type(op.operator).__name__ for op in self.train_transform.augment_ops)
            raise ValueError(
                f"loader.use_dali: with DALI, this project supports only cropping, flipping and normalization, but "
                f"train_transform.augment_ops contains {names}; set loader.use_dali to false"
            )
        return self

    @model_validator(mode="after")
    def _require_half_precision(self) -> Self:
        if not self.amp.use_amp:
            return self
        if self.launch.device == "cpu":
            raise ValueError(
                "amp.use_amp: on launch.device cpu, Paddle does not support half precision and would silently train in "
                "float32; set amp.use_amp to false"
            )
        if self.to_static and self.amp.level == "O2":
            raise ValueError(
                "to_static is true and amp.level is O2: Paddle supports this combination only for half-precision "
                "weights; set amp.level to O1"
            )
        return self
