"""Defines `params:sweep`: the search space, the number of trials, the metric and the pruning of a sweep."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from resnet50_pipeline.frozen_model import FiniteModel

Choice = bool | int | float | str | None | tuple[int, ...] | tuple[float, ...]
# Metrics that are evaluated after each epoch. All others are available only after the trial.
_BETTER_DIRECTION = {"top1": "maximize", "top5": "maximize", "loss": "minimize"}


class FloatRange(FiniteModel):
    """A range of real numbers, including both ends."""

    low: float = Field(description="Smallest value.")
    high: float = Field(description="Largest value.")
    log: bool = Field(default=False, description="Sample on a logarithmic scale, as usual for learning rates.")
    step: float | None = Field(
        default=None, gt=0, description="Sample only low, low + step, and so on. Cannot be combined with log."
    )

    @model_validator(mode="after")
    def _check_range(self) -> Self:
        _require_order(self.low, self.high, log=self.log)
        if self.log and self.step is not None:
            raise ValueError(f"step {self.step:g} cannot be combined with log: true; remove one of the two")
        return self


class IntegerRange(FiniteModel):
    """A range of integers, including both ends."""

    integer: Literal[True] = Field(description="Marks a range of integers.")
    low: int = Field(description="Smallest value.")
    high: int = Field(description="Largest value.")
    log: bool = Field(default=False, description="Sample on a logarithmic scale.")

    @model_validator(mode="after")
    def _check_range(self) -> Self:
        _require_order(self.low, self.high, log=self.log)
        return self


class Choices(FiniteModel):
    """A list of unordered values."""

    choices: tuple[Choice, ...] = Field(min_length=2, description="All values to try.")

    @model_validator(mode="after")
    def _check_distinct(self) -> Self:
        if len({repr(choice) for choice in self.choices}) < len(self.choices):
            raise ValueError(f"choices contains a duplicate: {list(self.choices)}; remove it")
        return self


def _require_order(low: float, high: float, *, log: bool) -> None:
    if low >= high:
        raise ValueError(
            f"low {low:g} must be less than high {high:g}; to set a fixed value, use --params or a configuration file"
        )
    if log and low <= 0:
        raise ValueError(f"with log: true, low must be greater than 0, but it is {low:g}")


def _kind_of(value: Any) -> str:
    """Return the kind of a search range, so that pydantic reports only the errors for that kind."""
    names = value if isinstance(value, dict) else vars(value) if isinstance(value, FiniteModel) else ()
    return "choices" if "choices" in names else "integer" if "integer" in names else "float"


SearchRange = FloatRange | IntegerRange | Choices
_TaggedRange = Annotated[
    Annotated[FloatRange, Tag("float")] | Annotated[IntegerRange, Tag("integer")] | Annotated[Choices, Tag("choices")],
    Discriminator(_kind_of),
]


class SamplerParameters(FiniteModel):
    """`sweep.sampler`: Optuna's sampler and its options, named as in Optuna."""

    name: Literal["tpe", "random"] = Field(
        default="tpe",
        description="Sampling method. tpe: favors values near the values of good trials (Bergstra et al. 2011). "
        "random: samples uniformly.",
    )
    n_startup_trials: int = Field(default=10, ge=0, description="tpe: number of random trials at the start.")
    multivariate: bool = Field(default=False, description="tpe: model the parameters jointly.")


class MedianPrunerParameters(FiniteModel):
    """Prunes a trial that is worse than the median of the other trials at the same epoch."""

    name: Literal["median"]
    n_startup_trials: int = Field(default=5, ge=0, description="Number of finished trials before pruning starts.")
    n_warmup_steps: int = Field(default=0, ge=0, description="Number of initial epochs in which no trial is pruned.")
    interval_steps: int = Field(default=1, ge=1, description="Number of epochs between two pruning checks.")


class HalvingPrunerParameters(FiniteModel):
    """Prunes trials with asynchronous successive halving (Li et al. 2018): only the best trials pass each rung."""

    name: Literal["successive_halving"]
    min_resource: int = Field(default=1, ge=1, description="Minimum number of epochs per trial.")
    reduction_factor: int = Field(
        default=4, ge=2, description="One out of this many trials continues to the next rung."
    )
    min_early_stopping_rate: int = Field(default=0, ge=0, description="Number of rungs to skip at the start.")


class NoPrunerParameters(FiniteModel):
    """Never prunes a trial."""

    name: Literal["none"]


class SweepParameters(FiniteModel):
    """`sweep`: the search space, the number of trials, the metric and the pruning."""

    study: str = Field(
        pattern=r"^[A-Za-z0-9][\w.-]*$",
        description="Name of the study and its folder in output_dir. A later sweep with the same name continues the "
        "study.",
    )
    output_dir: Path = Field(
        description="Folder for studies, with one folder per trial. If the key is missing: 09_sweeps in the workspace."
    )
    storage: str | None = Field(
        default=None,
        description="Optuna database URL, such as postgresql://…, for sweeps on several machines. null: a SQLite "
        "file in the study's folder.",
    )
    space: dict[str, _TaggedRange | None] = Field(
        description="Search ranges, keyed by the path of a `training` parameter. null removes a range that another "
        "configuration file defines."
    )
    trials: int = Field(ge=1, description="Total number of trials, including pruned trials.")
    metric: str = Field(
        default="val/top1",
        pattern=r"^(val/(top1|top5|loss)|evaluation/\w+)$",
        description="Metric to optimize. val/top1, val/top5, val/loss: the best value during training. "
        "evaluation/<name>: a metric of the evaluation stage.",
    )
    direction: Literal["maximize", "minimize"] = Field(
        default="maximize", description="Whether to maximize or minimize the metric."
    )
    seed: int = Field(
        default=0, ge=0, le=2**32 - 1, description="Seed for the sampler. The seed for training is training.seed."
    )
    sampler: SamplerParameters = SamplerParameters()
    pruner: Annotated[
        MedianPrunerParameters | HalvingPrunerParameters | NoPrunerParameters, Field(discriminator="name")
    ] = MedianPrunerParameters(name="median")
    keep: Literal["best", "all"] = Field(
        default="best",
        description="Trials whose checkpoint sets are kept. Events, logs and reports are kept for all trials.",
    )
    on_error: Literal["stop", "next"] = Field(
        default="stop",
        description="What to do after a failed trial. stop: end the sweep; the next `kedro sweep` resumes the trial. "
        "next: record the trial as failed and start another. A trial with a non-finite loss is always pruned.",
    )
    register_best: bool = Field(default=False, description="Register the best trial's model at the end of the sweep.")

    @property
    def ranges(self) -> dict[str, SearchRange]:
        """The search ranges that are not null, keyed and sorted by path."""
        return {path: values for path, values in sorted(self.space.items()) if values is not None}

    @property
    def folder(self) -> Path:
        """The study's folder."""
        return self.output_dir / self.study

    @property
    def pruning_metric(self) -> str | None:
        """The `EvalEnd` field used for pruning, or None if the metric is available only after the trial."""
        name = self.metric.partition("/")[2]
        return name if name in _BETTER_DIRECTION else None

    @model_validator(mode="after")
    def _check_consistency(self) -> Self:
        if not self.ranges:
            raise ValueError("space is empty; add a range, such as training.lr.learning_rate: {low: 0.01, high: 0.1}")
        better = _BETTER_DIRECTION.get(self.metric.partition("/")[2], self.direction)
        if better != self.direction:
            raise ValueError(f"direction {self.direction} is wrong for metric {self.metric}; set direction to {better}")
        if self.pruning_metric is None and self.pruner.name != "none":
            raise ValueError(
                f"pruner {self.pruner.name} cannot use metric {self.metric}, which is computed only after the trial; "
                f"set pruner.name to none"
            )
        return self
