"""Defines `training`: the recipe and the run settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from resnet50_pipeline.frozen_model import refuse_url
from resnet50_pipeline.parameters.determinism import add_deterministic_flags, list_nondeterministic_operators
from resnet50_pipeline.parameters.evaluation import is_registered_reference
from resnet50_pipeline.parameters.launch import LaunchParameters
from resnet50_pipeline.parameters.step import divide_step
from resnet50_pipeline.recipe.loaders import Loader
from resnet50_pipeline.recipe.losses import CELoss, Loss
from resnet50_pipeline.recipe.optimization import Momentum, Optimizer, Schedule
from resnet50_pipeline.recipe.precision import Amp
from resnet50_pipeline.recipe.run import Arch, Run
from resnet50_pipeline.recipe.transforms import EvalTransform, TrainTransform
from resnet50_pipeline.recipe.virtual_ranks import can_share
from resnet50_pipeline.text import pluralize

# Settings of the run, such as devices and checkpoint intervals. All other fields belong to the recipe.
RUN_SETTINGS = frozenset(
    {
        *("engine", "paddleclas_home", "resume", "seed", "pretrained_model", "pretrained_digest", "to_static"),
        *("eval_batch_size_per_rank", "print_batch_step", "eval_interval", "deterministic_reduction"),
        *("save_interval", "save_interval_steps", "keep_checkpoints", "replica_check_interval", "launch", "loader"),
        *("checkpoint_mirror", "record_margins", "update_ratios", "profile_steps", "deterministic"),
    }
)


class TrainingParameters(Run):
    """`training`: the recipe and the run settings."""

    engine: Literal["native", "paddleclas"] = Field(
        default="native",
        description="Training program. native: this project's training loop with PaddleClas' networks. paddleclas: "
        "tools/train.py from a PaddleClas checkout.",
    )
    paddleclas_home: Path | None = Field(
        default=None,
        description="Checkout of PaddleClas release/2.6 for the paddleclas engine. null: $PADDLECLAS_HOME.",
    )
    resume: bool | Literal["auto"] = Field(
        default=False,
        description="Whether to resume. true: resume from the latest checkpoint set. auto: resume an unfinished run; "
        "without one, start from scratch. false: start from scratch.",
    )
    batch_size_per_rank: int = Field(
        ge=1, description="Images per rank and batch. If unset, it is derived from images_per_step."
    )
    max_batch_size_per_rank: int | None = Field(
        default=None,
        ge=1,
        description="Upper limit for a batch size derived from images_per_step. Choose a value that fits the device "
        "memory.",
    )
    eval_batch_size_per_rank: int = Field(ge=1, description="Images per rank and evaluation batch.")
    label_smoothing: float = Field(
        default=0.0, ge=0, lt=1, description="Fraction of each target to distribute evenly over all classes."
    )
    images_per_step: int | None = Field(
        default=None,
        ge=1,
        description="Total number of images per step, for all ranks together, for which the learning rate was chosen. "
        "If batch_size_per_rank and update_freq are unset, they are derived from this number, with as few batches of "
        "at most max_batch_size_per_rank images as possible. If both are set, they must result in this number. null: "
        "no check.",
    )
    ema_decay: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="Decay per step for the moving average of the weights, which is evaluated and exported. null: no "
        "averaging.",
    )
    pretrained_model: Path | None = Field(
        default=None,
        description="Weights to start from: a local .pdparams file, .safetensors file or checkpoint set, the folder of "
        "an exported model, or a registered version (models:/name@champion, models:/name/3). If the number of classes "
        "differs, the head is initialized randomly.",
    )
    pretrained_digest: str | None = Field(
        default=None,
        pattern=r"^(sha256:)?[0-9a-f]{64}$",
        description="SHA-256 digest of the file in pretrained_model, as printed by `sha256sum`. The run fails if the "
        "file does not match. null: no check.",
    )
    checkpoint_mirror: str | None = Field(
        default=None,
        pattern=r"^[a-z][a-z0-9+.-]*://.+",
        description="*native*: folder in an object store, such as s3://bucket/prefix, for copies of the checkpoint "
        "sets, from which a run resumes on another machine. Each run needs its own folder. null: no copies.",
    )
    deterministic: bool = Field(
        default=False,
        strict=True,  # the validator that sets the flags sees the value before pydantic converts it
        description="Whether a repeated run on the same NVIDIA GPUs gives bit-identical weights. true sets "
        "environment variables for cuDNN, cuBLAS and NCCL, which makes convolutions slower. On a CPU, runs are always "
        "deterministic.",
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
        """Describe the division of a step, such as "256 images per step: 4 ranks x 2 batches of 32 images"."""
        ranks, batches, size = self.launch.ranks, self.update_freq, self.batch_size_per_rank
        each = f"{pluralize(batches, 'batch', 'batches')} of {pluralize(size, 'image')}"
        if self.parts > ranks:
            each = f"{self.parts // ranks} virtual ranks x {each}"
        text = f"{pluralize(self.parts * batches * size, 'image')} per step: {pluralize(ranks, 'rank')} x {each}"
        is_fixed = self.engine == "paddleclas" or self.launch.is_elastic
        if self.virtual_ranks is None or self.shared_virtual_ranks is not None or is_fixed:
            return text
        return (
            f"{text}. {self.virtual_ranks} virtual ranks cannot be divided among these ranks, so the weights depend on "
            "the number of ranks"
        )

    def describe_determinism(self) -> str:
        """Describe what keeps a run from being repeatable, or return "" on a CPU or if `deterministic` is false."""
        if not self.deterministic or self.launch.device == "cpu":
            return ""
        operators = list_nondeterministic_operators(
            ranks=self.launch.ranks,
            has_fixed_reduction=self.shared_virtual_ranks is not None and self.deterministic_reduction is not False,
            use_dali=self.loader.use_dali,
        )
        return f"deterministic; operators without a deterministic version: {'; '.join(operators) or 'none'}"

    @property
    def parts(self) -> int:
        """The number of parts of a step: `virtual_ranks` if the ranks can share them, otherwise the number of ranks."""
        return self.shared_virtual_ranks or self.launch.ranks

    @property
    def shared_virtual_ranks(self) -> int | None:
        """`virtual_ranks` if the ranks can share them, otherwise None. Always None with PaddleClas or elastic runs."""
        return _share(self.virtual_ranks, self.launch, self.engine, self.deterministic_reduction)

    @model_validator(mode="before")
    @classmethod
    def _divide_images_per_step(cls, values: Any) -> Any:
        """Derive an unset batch size and update_freq, so that a recipe works with any number of ranks."""
        keys = ("batch_size_per_rank", "update_freq")
        if not isinstance(values, dict) or not isinstance(values.get("images_per_step"), int):
            return values
        batch, batches = (values.get(key) for key in keys)
        most = batch or values.get("max_batch_size_per_rank")
        if batches is not None or not isinstance(most, int) or most < 1 or values["images_per_step"] < 1:
            return values  # nothing to derive, or a value that the field's validator rejects
        try:
            launch = LaunchParameters.model_validate(values.get("launch"))
        except ValidationError:
            return values  # the field reports the error
        virtual_ranks = values.get("virtual_ranks")
        if not isinstance(virtual_ranks, int) or virtual_ranks < 1:
            virtual_ranks = None
        deterministic = values.get("deterministic_reduction")
        parts = _share(virtual_ranks, launch, values.get("engine"), deterministic) or launch.ranks
        if batch is None:
            batch, batches = divide_step(values["images_per_step"], parts, most)
        else:
            batches = max(values["images_per_step"] // (parts * batch), 1)
        return values | dict(zip(keys, (batch, batches), strict=True))

    @model_validator(mode="before")
    @classmethod
    def _set_deterministic_flags(cls, values: Any) -> Any:
        if not isinstance(values, dict) or values.get("deterministic") is not True:
            return values
        try:
            launch = LaunchParameters.model_validate(values.get("launch"))
        except ValidationError:
            return values  # the field reports the error
        environment = add_deterministic_flags(launch.environment)
        return values | {"launch": launch.model_copy(update={"environment": environment})}

    @model_validator(mode="after")
    def _require_warmup_within_the_run(self) -> Self:
        if self.lr.warmup_epoch >= self.epochs and self.lr.warmup_epoch > 0:
            raise ValueError(f"lr.warmup_epoch {self.lr.warmup_epoch} must be less than epochs {self.epochs}")
        return self

    @model_validator(mode="after")
    def _require_images_per_step(self) -> Self:
        images = self.batch_size_per_rank * self.parts * self.update_freq
        if self.images_per_step in (None, images) or self.launch.is_elastic:
            return self
        fitting, rest = divmod(self.images_per_step or 0, self.parts)
        advice = f"set training.batch_size_per_rank x update_freq to {fitting}, " if not rest else ""
        raise ValueError(
            f"images_per_step is {self.images_per_step}, but {self._describe_parts()} x "
            f"batch_size_per_rank {self.batch_size_per_rank} x update_freq {self.update_freq} = {images}, which does "
            f"not match the learning rate; {advice}or scale training.lr and set training.images_per_step to null"
        )

    def _describe_parts(self) -> str:
        return pluralize(self.parts, "virtual rank" if self.parts > self.launch.ranks else "rank")

    @model_validator(mode="after")
    def _require_deterministic_reduction(self) -> Self:
        if self.deterministic_reduction and self.shared_virtual_ranks is None:
            raise ValueError(
                f"deterministic_reduction is true, but {pluralize(self.launch.ranks, 'rank')} cannot share "
                f"virtual_ranks: {self.virtual_ranks}; use a number of ranks that is a power of two and divides "
                "virtual_ranks (engine native, not elastic), or set deterministic_reduction to null"
            )
        return self

    @model_validator(mode="after")
    def _require_native_mirror(self) -> Self:
        if self.checkpoint_mirror is not None and self.engine != "native":
            raise ValueError(f"checkpoint_mirror works only with engine: native, but engine is {self.engine}")
        return self

    @model_validator(mode="after")
    def _require_file_for_digest(self) -> Self:
        if self.pretrained_digest is not None and self.pretrained_model is None:
            raise ValueError("pretrained_digest is set, but pretrained_model is null; set both or neither")
        if self.pretrained_digest is not None and is_registered_reference(str(self.pretrained_model)):
            raise ValueError(
                f"pretrained_digest works only for files, but pretrained_model is {self.pretrained_model}; set "
                f"pretrained_digest to null and refer to the version by its number, because versions never change"
            )
        return self

    @model_validator(mode="after")
    def _require_thaw_support(self) -> Self:
        thaw_epoch = self.arch.thaw_epoch
        if thaw_epoch is not None and thaw_epoch > self.epochs:
            raise ValueError(
                f"arch.thaw_epoch {thaw_epoch} is greater than epochs {self.epochs}; set thaw_epoch to null to keep "
                "the layers frozen"
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
                "compensate for class imbalance, so rare classes would count twice; set one of the two to null"
            )
        return self

    @model_validator(mode="after")
    def _require_unmixed_images(self) -> Self:
        if self.record_margins and self.train_transform.batch_transform_ops:
            raise ValueError(
                "record_margins is true, but train_transform.batch_transform_ops mixes images, and a mixed image has "
                "no margin because it has two labels; set one of the two to its default (false or [])"
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
                f"loader.use_dali: with DALI, only cropping, flipping and normalization are supported, but "
                f"train_transform.augment_ops contains {names}; set loader.use_dali to false"
            )
        return self

    @model_validator(mode="after")
    def _require_half_precision(self) -> Self:
        if not self.amp.use_amp:
            return self
        if self.launch.device == "cpu":
            raise ValueError(
                "amp.use_amp: launch.device is cpu, where Paddle does not support half precision and would silently "
                "train in float32; set amp.use_amp to false"
            )
        if self.to_static and self.amp.level == "O2":
            raise ValueError(
                "to_static is true and amp.level is O2: Paddle supports this combination only for half-precision "
                "weights; set amp.level to O1"
            )
        return self


def _share(virtual_ranks: int | None, launch: LaunchParameters, engine: object, deterministic: object) -> int | None:
    # PaddleClas has one part per rank. In elastic training, the number of ranks is unknown until training starts.
    if virtual_ranks is None or engine == "paddleclas" or launch.is_elastic:
        return None
    fits = can_share(virtual_ranks, launch.ranks, deterministic=deterministic is not False)
    return virtual_ranks if fits else None
