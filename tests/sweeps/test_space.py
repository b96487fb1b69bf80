"""The search space: our own parameters, checked before anything starts, and the same for Optuna."""

from __future__ import annotations

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from pydantic import ValidationError

from resnet50_pipeline.exceptions import ParameterError
from resnet50_pipeline.parameters import SweepParameters
from resnet50_pipeline.sweeps.space import decode_params, list_paths, merge, nest, require_space, to_distributions
from striped_dataset import build_training_parameters

RATE = "training.lr.learning_rate"


def sweep_of(space: dict, **changes: object) -> SweepParameters:
    return SweepParameters.model_validate({"study": "s", "output_dir": "out", "trials": 3, "space": space, **changes})


@pytest.fixture(scope="module")
def training(tmp_path_factory) -> dict:
    """`params:training` as conf/ has it."""
    return build_training_parameters(tmp_path_factory.mktemp("t")).model_dump(mode="json")


def test_each_kind_of_values_becomes_its_distribution():
    """Ranges, logarithmic and stepped, whole numbers and choices; a list is its JSON text for Optuna."""
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
    ).tried
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
    chosen = {"training.arch.lr_mult_list": texts[1], "training.arch.name": "ResNet18", RATE: 0.02}
    assert decode_params(chosen, space) == {**chosen, "training.arch.lr_mult_list": list(lists[1])}


@pytest.mark.parametrize(
    ("space", "named"),
    [
        ({"training.lr.learning_rat": {"low": 0.1, "high": 1}}, rf"did you mean {RATE}\?"),
        ({"training.lr": {"choices": ["a", "b"]}}, "training.lr is no single value"),
        ({"dataset.class_num": {"integer": True, "low": 2, "high": 3}}, "no single value of the group training"),
        ({"training.output_dir": {"choices": ["a", "b"]}}, "is set by the sweep itself"),
        ({RATE: {"low": -0.1, "high": 0.1}}, r"learning_rate=-0.1 is refused: lr.learning_rate: .*greater than 0"),
        ({"training.label_smoothing": {"low": 0.0, "high": 1.5}}, "label_smoothing=1.5 is refused"),
        ({"training.loss.name": {"choices": ["CELoss", "Hinge"]}}, 'name="Hinge" is refused'),
        ({"training.lr.name": {"choices": ["Cosine", "Piecewise"]}}, "Piecewise takes its rates from values"),
        ({"training.lr.warmup_epoch": {"integer": True, "low": 0, "high": 2}}, "warmup_epoch 2 must be below epochs 2"),
    ],
)
def test_what_no_training_takes_is_refused(training, space, named):
    """An unknown path, a value out of its parameter's range, and one that does not fit the others."""
    with pytest.raises(ParameterError, match=named):
        require_space(sweep_of(space).tried, training)


def test_values_that_do_not_go_together_are_refused(training):
    """Each value alone fits conf/, and two of them do not fit one another."""
    space = {
        "training.epochs": {"integer": True, "low": 2, "high": 4},
        "training.lr.warmup_epoch": {"integer": True, "low": 1, "high": 2},
    }
    with pytest.raises(ParameterError, match=r"epochs=2, training.lr.warmup_epoch=2 together are refused"):
        require_space(sweep_of(space).tried, {**training, "epochs": 3})


def test_a_space_that_fits_is_taken(training):
    """The ends of the ranges are what the parameters allow."""
    require_space(sweep_of({RATE: {"low": 1e-4, "high": 1, "log": True}}).tried, training)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"space": {RATE: {"low": 1, "high": 0.1}}}, "low 1 must be below high 0.1"),
        ({"space": {RATE: {"low": 0, "high": 0.1, "log": True}}}, "log needs low above 0"),
        ({"space": {RATE: {"low": 0.1, "high": 0.2, "logg": True}}}, "logg"),
        ({"space": {RATE: {"choices": [1, 1]}}}, "names a value twice"),
        ({"space": {RATE: None}}, "space names no parameter"),
        ({"metric": "val/loss"}, "set direction to minimize"),
        ({"metric": "train/loss"}, "metric"),
        ({"metric": "evaluation/ece", "direction": "minimize"}, "set pruner.name to none"),
        ({"pruner": {"name": "median", "min_resource": 1}}, "min_resource"),
        ({"study": "../other"}, "study"),
    ],
)
def test_a_sweep_that_makes_no_sense_is_refused(changes, named):
    """A range without values, a figure that is better the other way round, a pruner's option of another pruner."""
    with pytest.raises(ValidationError, match=named):
        sweep_of(**{"space": {RATE: {"low": 0.1, "high": 0.2}}, **changes})


def test_every_value_of_the_group_has_a_path():
    """Sections are gone into, and nothing else is."""
    paths = list_paths()
    assert {RATE, "training.optimizer.l2_coeff", "training.label_smoothing", "training.arch.lr_mult_list"} <= set(paths)
    assert "training.lr" not in paths


def test_paths_become_sections_over_what_was_given():
    """What a trial is started with: the user's own parameters, and the chosen ones over them."""
    given = {"training": {"lr": {"name": "Linear", "learning_rate": 1.0}, "epochs": 9}}
    assert merge(given, nest({RATE: 0.1, "training.seed": 3})) == {
        "training": {"lr": {"name": "Linear", "learning_rate": 0.1}, "epochs": 9, "seed": 3}
    }
