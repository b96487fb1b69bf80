"""`sweep`: which values are tried, how many times, by what they are judged, and when a trial is given up."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from resnet50_pipeline.parameters.base import ParameterModel

Choice = bool | int | float | str | None | tuple[int, ...] | tuple[float, ...]
# What an evaluation during the training says; of other figures nothing is known before the trial's end.
WATCHED_FIGURES = ("top1", "top5", "loss")


class FloatRange(ParameterModel):
    """Real numbers from `low` to `high`, both included."""

    low: float = Field(description="The least value.")
    high: float = Field(description="The greatest value.")
    log: bool = Field(default=False, description="Evenly over orders of magnitude, as learning rates are tried.")
    step: float | None = Field(default=None, gt=0, description="Only low, low + step, …; not with log.")

    @model_validator(mode="after")
    def _be_a_range(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low {self.low:g} must be below high {self.high:g}; a fixed value belongs into the group")
        if self.log and self.low <= 0:
            raise ValueError(f"log needs low above 0; it is {self.low:g}")
        if self.log and self.step is not None:
            raise ValueError("a range is stepped or log, not both; leave step or log out")
        return self


class IntegerRange(ParameterModel):
    """Whole numbers from `low` to `high`, both included."""

    integer: Literal[True] = Field(description="Says that it is one of whole numbers.")
    low: int = Field(description="The least value.")
    high: int = Field(description="The greatest value.")
    log: bool = Field(default=False, description="Evenly over orders of magnitude.")

    @model_validator(mode="after")
    def _be_a_range(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low {self.low} must be below high {self.high}; a fixed value belongs into the group")
        if self.log and self.low < 1:
            raise ValueError(f"log needs low of 1 or more; it is {self.low}")
        return self


class Choices(ParameterModel):
    """Values without an order."""

    choices: tuple[Choice, ...] = Field(min_length=2, description="All values that are tried.")

    @model_validator(mode="after")
    def _differ(self) -> Self:
        if len({repr(choice) for choice in self.choices}) < len(self.choices):
            raise ValueError(f"choices names a value twice: {list(self.choices)}")
        return self


def _kind_of(value: Any) -> str:
    """Return which kind of values an entry of the space has, so that its mistakes are told of this kind alone."""
    names = value if isinstance(value, dict) else vars(value) if isinstance(value, ParameterModel) else ()
    return "choices" if "choices" in names else "integer" if "integer" in names else "float"


TriedValues = Annotated[
    Annotated[FloatRange, Tag("float")] | Annotated[IntegerRange, Tag("integer")] | Annotated[Choices, Tag("choices")],
    Discriminator(_kind_of),
]


class SamplerParameters(ParameterModel):
    """`sweep.sampler`: how the values of the next trial are chosen, by Optuna's names."""

    name: Literal["tpe", "random"] = Field(
        default="tpe", description="tpe: near those that did well (Bergstra et al. 2011); random: anywhere."
    )
    n_startup_trials: int = Field(default=10, ge=0, description="tpe: as many are random before.")
    multivariate: bool = Field(default=False, description="tpe: look at the parameters together.")


class MedianPrunerParameters(ParameterModel):
    """Give up a trial that is worse than the median of the others at the same epoch."""

    name: Literal["median"]
    n_startup_trials: int = Field(default=5, ge=0, description="Finished trials before any is given up.")
    n_warmup_steps: int = Field(default=0, ge=0, description="Epochs in which no trial is given up.")
    interval_steps: int = Field(default=1, ge=1, description="Epochs between two looks.")


class HalvingPrunerParameters(ParameterModel):
    """Let the better part of the trials go on at each rung, asynchronously (Li et al. 2018)."""

    name: Literal["successive_halving"]
    min_resource: int = Field(default=1, ge=1, description="Epochs that every trial has.")
    reduction_factor: int = Field(default=4, ge=2, description="One of so many goes on to the next rung.")
    min_early_stopping_rate: int = Field(default=0, ge=0, description="How many rungs are left out at the start.")


class NoPrunerParameters(ParameterModel):
    """Every trial trains to its end."""

    name: Literal["none"]


class SweepParameters(ParameterModel):
    """`sweep`: which values are tried, how many times, by what they are judged, and when a trial is given up."""

    study: str = Field(
        pattern=r"^[A-Za-z0-9][\w.-]*$",
        description="Name of the study: a sweep of the same name goes on with it. Also its folder in output_dir.",
    )
    output_dir: Path = Field(description="Folder of the studies; each trial has a folder of its own below.")
    storage: str | None = Field(
        default=None,
        description="Optuna's database, as postgresql://…, where sweeps of several machines share a study; null: a "
        "SQLite file in the folder of the study.",
    )
    space: dict[str, TriedValues | None] = Field(
        description="Parameters of `training` by their path, and the values that are tried; null: not this one, where "
        "another file names it."
    )
    trials: int = Field(ge=1, description="How many, those that were given up included.")
    metric: str = Field(
        default="val/top1",
        pattern=r"^(val/(top1|top5|loss)|evaluation/\w+)$",
        description="val/top1, val/top5 or val/loss: the best evaluation during the training; evaluation/<name>: a "
        "figure of the stage evaluation.",
    )
    direction: Literal["maximize", "minimize"] = Field(default="maximize", description="What is better.")
    seed: int = Field(default=0, ge=0, description="Of the choice of values; the training's own is training.seed.")
    sampler: SamplerParameters = SamplerParameters()
    pruner: Annotated[
        MedianPrunerParameters | HalvingPrunerParameters | NoPrunerParameters, Field(discriminator="name")
    ] = MedianPrunerParameters(name="median")
    keep: Literal["best", "all"] = Field(
        default="best", description="Whose checkpoint sets stay. Events, logs and reports stay of all."
    )
    on_error: Literal["stop", "next"] = Field(
        default="stop",
        description="After a trial that failed: stop, so that the next `kedro sweep` goes on with it once the cause is "
        "mended; or count it as failed and try others. A loss that is not finite is no error: that trial is given up.",
    )
    register_best: bool = Field(default=False, description="Register the best trial's model when the sweep is done.")

    @property
    def tried(self) -> dict[str, FloatRange | IntegerRange | Choices]:
        """The space without what is null, by path."""
        return {path: values for path, values in sorted(self.space.items()) if values is not None}

    @property
    def folder(self) -> Path:
        """The folder of the study."""
        return self.output_dir / self.study

    @property
    def watched_figure(self) -> str | None:
        """What of an evaluation during the training a trial is given up by; None where there is no such figure."""
        name = self.metric.partition("/")[2]
        return name if name in WATCHED_FIGURES else None

    @model_validator(mode="after")
    def _try_something(self) -> Self:
        if not self.tried:
            raise ValueError("space names no parameter; give one, as training.lr.learning_rate: {low: 0.01, high: 0.1}")
        return self

    @model_validator(mode="after")
    def _know_what_is_better(self) -> Self:
        known = {"top1": "maximize", "top5": "maximize", "loss": "minimize"}
        name = self.metric.partition("/")[2]
        if known.get(name, self.direction) != self.direction:
            raise ValueError(f"metric {self.metric} is better the other way round: set direction to {known[name]}")
        if self.watched_figure is None and self.pruner.name != "none":
            raise ValueError(
                f"metric {self.metric} is not known before a trial's end, so that no trial can be given up by it; "
                f"set pruner.name to none"
            )
        return self
