"""Tests of the search space: its validation, and its conversion to Optuna's distributions."""

from __future__ import annotations

import re

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from pydantic import ValidationError

from resnet50_pipeline.child_runs.run_file import merge
from resnet50_pipeline.commands.parameter_errors import describe_invalid_parameters
from resnet50_pipeline.exceptions import ParameterError
from resnet50_pipeline.parameters import SweepParameters
from resnet50_pipeline.sweeps.space import nest, require_space, to_distributions
from striped_dataset import build_training_parameters

RATE = "training.lr.learning_rate"


def sweep_of(space: dict, **changes: object) -> SweepParameters:
    return SweepParameters.model_validate({"study": "s", "output_dir": "out", "trials": 3, "space": space, **changes})


@pytest.fixture(scope="module")
def training(tmp_path_factory) -> dict:
    """`params:training` as `conf/` defines it."""
    return build_training_parameters(tmp_path_factory.mktemp("t")).model_dump(mode="json", exclude={"output_dir"})


def test_each_kind_of_range_becomes_an_optuna_distribution():
    """Linear, logarithmic, stepped and integer ranges and choices are converted. A list becomes its JSON text."""
    lists = ((1.0, 1.0, 1.0, 1.0, 1.0), (0.1, 0.1, 1.0, 1.0, 1.0))
    space = sweep_of(
        {
            RATE: {"low": 0.01, "high": 0.1, "log": True},
            "training.label_smoothing": {"low": 0, "high": 0.2, "step": 0.05},
            "training.epochs": {"integer": True, "low": 2, "high": 8, "log": True},
            "training.arch.name": {"choices": ["ResNet18", "ResNet50"]},
            "training.arch.lr_mult_list": {"choices": lists},
            "training.ema_decay": {"choices": [None, 0.9]},
            "training.seed": None,
        }
    ).space
    distributions = to_distributions(space)
    texts = ["[1.0, 1.0, 1.0, 1.0, 1.0]", "[0.1, 0.1, 1.0, 1.0, 1.0]"]
    assert distributions == {
        RATE: FloatDistribution(0.01, 0.1, log=True),
        "training.label_smoothing": FloatDistribution(0, 0.2, step=0.05),
        "training.epochs": IntDistribution(2, 8, log=True),
        "training.arch.name": CategoricalDistribution(["ResNet18", "ResNet50"]),
        "training.arch.lr_mult_list": CategoricalDistribution(texts),
        "training.ema_decay": CategoricalDistribution([None, 0.9]),
    }
    chosen = {"training.arch.lr_mult_list": texts[1], "training.arch.name": "ResNet18"}
    assert nest(chosen) == {"training": {"arch": {"lr_mult_list": list(lists[1]), "name": "ResNet18"}}}


@pytest.mark.parametrize(
    ("space", "named"),
    [
        (
            {"training.lr.learning_rat": {"low": 0.1, "high": 1}},
            r"lr\.learning_rat: there is no such parameter; did you mean learning_rate\?",
        ),
        ({"training.lr": {"choices": ["a", "b"]}}, r"training\.lr=a is invalid\n"),
        (
            {RATE: {"low": -0.1, "high": 0.1}},
            r"learning_rate=-0\.1 is invalid\ntraining\.lr\.learning_rate: .*greater than 0",
        ),
        ({"training.label_smoothing": {"low": 0.0, "high": 1.5}}, "label_smoothing=1\\.5 "),
        ({"training.loss.name": {"choices": ["CELoss", "Hinge"]}}, "name=Hinge "),
        ({"training.lr.name": {"choices": ["Cosine", "Piecewise"]}}, r"lr\.name=Piecewise "),
        ({"training.lr.warmup_epoch": {"integer": True, "low": 0, "high": 2}}, r"lr\.warmup_epoch=2"),
    ],
)
def test_invalid_space_is_rejected(training, space, named):
    """The error identifies the unknown path, or the value that the parameters reject."""
    with pytest.raises(ParameterError) as refused:
        require_space(sweep_of(space).space, training)
    assert re.search(named, describe_invalid_parameters(str(refused.value)))


def test_invalid_combination_of_values_is_rejected(training):
    """The error identifies a combination of values that are only valid individually."""
    space = {
        "training.epochs": {"integer": True, "low": 2, "high": 4},
        "training.lr.warmup_epoch": {"integer": True, "low": 1, "high": 2},
    }
    with pytest.raises(ParameterError, match=r"training\.epochs=2, training\.lr\.warmup_epoch=2 "):
        require_space(sweep_of(space).space, {**training, "epochs": 3})


def test_valid_space_is_accepted(training):
    """Both ends of each range are included in the search space."""
    require_space(sweep_of({RATE: {"low": 1e-4, "high": 1, "log": True}}).space, training)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"space": {RATE: {"low": 0.1, "high": 0.2, "logg": True}}}, "logg"),
        ({"space": {RATE: {"choices": [1, 2], "log": True}}}, "choices cannot be combined with log"),
        ({"space": {RATE: {"low": 0.1}}}, "set low and high"),
        ({"space": {RATE: {"integer": True, "low": 0.5, "high": 2}}}, r"low 0\.5"),
        ({"space": {"dataset.class_num": {"integer": True, "low": 2, "high": 3}}}, r"dataset\.class_num"),
        ({"space": {"training.resume": {"choices": [True, False]}}}, r"training\.resume"),
        ({"space": {RATE: None}}, "space\n.*at least 1"),
        ({"metric": "val/loss"}, "maximize .* val/loss; .*minimize"),
        ({"metric": "train/loss"}, "metric"),
        ({"pruner": {"name": "median", "min_resource": 1}}, "min_resource"),
        ({"study": "../other"}, "study"),
    ],
)
def test_invalid_sweep_is_rejected(changes, named):
    """An empty range, the wrong direction for a metric, or an option of another pruner is an error."""
    with pytest.raises(ValidationError, match=named):
        sweep_of(**{"space": {RATE: {"low": 0.1, "high": 0.2}}, **changes})


def test_chosen_values_replace_the_given_ones():
    """A trial uses the user's parameters, with the chosen values at their paths."""
    given = {"training": {"lr": {"name": "Linear", "learning_rate": 1.0}, "epochs": 9}}
    assert merge(given, nest({RATE: 0.1, "training.seed": 3})) == {
        "training": {"lr": {"name": "Linear", "learning_rate": 0.1}, "epochs": 9, "seed": 3}
    }


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"low": 1, "high": 0.1}, r"low=1, high=0\.1"),
        ({"low": 0, "high": 0.1, "log": True}, r"log=True.*low=0"),
        ({"low": 0.1, "high": 0.2, "log": True, "step": 0.1}, "step"),
    ],
)
def test_ranges_that_optuna_rejects_are_errors(values, named):
    """The error contains the path and Optuna's reason."""
    with pytest.raises(ParameterError, match=rf"sweep\.space: {re.escape(RATE)}: .*{named}"):
        to_distributions(sweep_of({RATE: values}).space)
