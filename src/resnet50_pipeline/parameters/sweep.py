"""Defines `params:sweep`: the search space, the number of trials, the metric and the pruning of a sweep."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from resnet50_pipeline.frozen_model import FiniteModel

Choice = bool | int | float | str | None | tuple[int, ...] | tuple[float, ...]
# Metrics that are evaluated after each epoch. All others are available only after the trial.
_BETTER_DIRECTION = {"top1": "maximize", "top5": "maximize", "loss": "minimize"}


class SearchRange(FiniteModel):
    """A range of numbers, including both ends, or a list of choices."""

    low: int | float | None = Field(default=None, description="Smallest value.")
    high: int | float | None = Field(default=None, description="Largest value.")
    integer: bool = Field(default=False, description="Sample only integers.")
    log: bool = Field(default=False, description="Sample on a logarithmic scale, as usual for learning rates.")
    step: int | float | None = Field(
        default=None, description="Sample only low, low + step, and so on. Cannot be combined with log."
    )
    choices: tuple[Choice, ...] | None = Field(
        default=None, min_length=2, description="All values to try, instead of a range. Their order does not matter."
    )

    @model_validator(mode="after")
    def _check_kind(self) -> Self:
        given = {name for name, value in self if value is not None and value is not False}
        if self.choices is not None and given != {"choices"}:
            raise ValueError(
                f"choices cannot be combined with {', '.join(sorted(given - {'choices'}))}; remove one of them"
            )
        if self.choices is None and not {"low", "high"} <= given:
            raise ValueError(f"set low and high, or choices; found low {self.low}, high {self.high}")
        if self.integer and not all(isinstance(value, int) for value in (self.low, self.high, self.step or 1)):
            raise ValueError(
                f"with integer: true, low and high must be integers; found low {self.low}, high {self.high}"
            )
        return self


class SamplerParameters(FiniteModel):
    """`sweep.sampler`: Optuna's sampler and its options, named as in Optuna."""

    name: Literal["tpe", "random"] = Field(
        default="tpe",
        description="Sampling method. tpe: favors values near the values of good trials (Bergstra et al. 2011). "
        "random: samples uniformly.",
    )
    n_startup_trials: int = Field(default=10, ge=0, description="tpe: number of random trials at the start.")


class PrunerParameters(FiniteModel):
    """`sweep.pruner`: Optuna's pruner, which ends bad trials early. One step is one epoch."""

    name: Literal["median", "successive_halving", "none"] = Field(
        default="median",
        description="Pruning method. median: prunes a trial that is worse than the median of the other trials at the "
        "same epoch. successive_halving: only the best quarter of the trials continue after 1, 4, 16, … epochs (Li et "
        "al. 2018). none: never prunes a trial.",
    )
    n_startup_trials: int = Field(
        default=5, ge=0, description="median: number of finished trials before pruning starts."
    )
    n_warmup_steps: int = Field(default=0, ge=0, description="Number of initial epochs in which no trial is pruned.")


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
    space: dict[Annotated[str, Field(pattern=r"^training\.")], SearchRange] = Field(
        min_length=1,
        description="Search ranges, keyed by the path of a `training` parameter. null removes a range that another "
        "configuration file defines.",
    )
    trials: int = Field(ge=1, description="Total number of trials, including pruned and failed trials.")
    metric: str = Field(
        default="val/top1",
        pattern=r"^(val/(top1|top5|loss)|evaluation/\w+)$",
        description="Metric to optimize. val/top1, val/top5, val/loss: the best value during training. "
        "evaluation/<name>: a metric of the evaluation stage. Trials are pruned only for top1, top5 and loss.",
    )
    direction: Literal["maximize", "minimize"] = Field(
        default="maximize", description="Whether to maximize or minimize the metric."
    )
    seed: int = Field(
        default=0, ge=0, le=2**32 - 1, description="Seed for the sampler. The seed for training is training.seed."
    )
    sampler: SamplerParameters = SamplerParameters()
    pruner: PrunerParameters = PrunerParameters()
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
    def folder(self) -> Path:
        """The study's folder."""
        return self.output_dir / self.study

    @property
    def pruning_metric(self) -> str | None:
        """The `EvalEnd` field used for pruning, or None if the metric is available only after the trial."""
        name = self.metric.partition("/")[2]
        return name if name in _BETTER_DIRECTION else None

    @field_validator("space", mode="before")
    @classmethod
    def _drop_nulls(cls, space: Any) -> Any:
        is_mapping = isinstance(space, dict)
        return {path: space[path] for path in sorted(space) if space[path] is not None} if is_mapping else space

    @model_validator(mode="after")
    def _check_consistency(self) -> Self:
        if "training.resume" in self.space:
            raise ValueError("space contains training.resume, which the sweep sets for each trial; remove this key")
        better = _BETTER_DIRECTION.get(self.pruning_metric or "", self.direction)
        if better != self.direction:
            raise ValueError(f"direction {self.direction} is wrong for metric {self.metric}; set direction to {better}")
        return self
