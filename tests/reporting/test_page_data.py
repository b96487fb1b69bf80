"""The data of the interactive report is correct: intervals, curves, differences from the recipe, and batches."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from evaluation_tables import make_evaluation, make_history, make_monitored_history, write_digits
from kedro.framework.project import configure_project, settings
from scipy.stats import binomtest

from resnet50_pipeline.paddleclas.config import TrainingPaths, has_recipe, render_training_config
from resnet50_pipeline.parameters import TrainingParameters
from resnet50_pipeline.recipe.document import parse_training_config
from resnet50_pipeline.recipe.loaders import Loader
from resnet50_pipeline.recipe.optimization import Momentum
from resnet50_pipeline.reporting.batch_samples import IMAGES, sample_batches
from resnet50_pipeline.reporting.class_intervals import add_intervals, find_classes_below_average, wilson_interval
from resnet50_pipeline.reporting.curve_data import MAX_POINTS, describe_curves
from resnet50_pipeline.reporting.metrics import per_class_table
from resnet50_pipeline.reporting.page_data import pack, unpack
from resnet50_pipeline.reporting.recipe_difference import compare_with_recipe

CONF = Path(__file__).parents[2] / "conf"


def _training(env: str = "base", **changes: Any) -> tuple[str | None, TrainingParameters]:
    configure_project("resnet50_pipeline")
    loader = settings.CONFIG_LOADER_CLASS(str(CONF), env=env, **settings.CONFIG_LOADER_ARGS)
    parameters = loader["parameters"]
    return parameters.get("recipe"), TrainingParameters.model_validate({**parameters["training"], **changes})


def test_packed_data_is_restored_and_reproducible():
    """Packed data is the same after unpacking, NaN becomes null, and equal data gives equal text."""
    data = {"a": [1, 2.5, float("nan")], "b": {"name": "naïve <b>"}}

    assert unpack(pack(data)) == {"a": [1, 2.5, None], "b": {"name": "naïve <b>"}}
    assert pack(data) == pack(data)


@pytest.mark.parametrize(("hits", "images"), [(0, 5), (3, 5), (5, 5), (57, 60), (1, 1000)])
def test_intervals_are_wilsons(hits, images):
    """The interval equals scipy's Wilson interval."""
    expected = binomtest(hits, images).proportion_ci(method="wilson")
    low, high = wilson_interval(np.array([float(hits)]), np.array([float(images)]))

    assert (low[0], high[0]) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_every_metric_is_within_its_interval():
    """Recall, precision and F1 of each class are within their intervals, and F1 equals scikit-learn's formula."""
    evaluation = make_evaluation(class_num=10, images_per_class=20, skill=2)
    table = add_intervals(per_class_table(evaluation.predictions, evaluation.label_map))

    for name in ("top1", "precision", "f1"):
        assert (table[f"{name}_low"] <= table[name]).all()
        assert (table[name] <= table[f"{name}_high"]).all()
    expected = 2 * table["correct"] / (table["images"] + table["predicted"])
    np.testing.assert_allclose(table["f1"], expected)


def test_chance_does_not_make_classes_worse():
    """Of 1000 equally good classes with 50 images each, none is found. A class with half the accuracy is found."""
    draw = np.random.default_rng(3)
    images = np.full(1000, 50.0)
    correct = draw.binomial(50, 0.76, 1000).astype(float)
    correct[7] = 19

    assert np.flatnonzero(find_classes_below_average(correct, images)).tolist() == [7]


def test_curves_have_epochs_and_restarts():
    """Each series has a value per step and per epoch. In the middle of an epoch, the epoch is a fraction."""
    history = make_history(epochs=4, steps_per_epoch=10)
    history.loc[len(history)] = pd.Series({"event": "resumed", "step": 15, "epoch": 2})
    curves = describe_curves(history)
    loss = curves["panels"][0]

    assert [panel["title"] for panel in curves["panels"]] == [
        *("Loss", "Top-1 accuracy", "Learning rate", "Throughput (images/s)")
    ]
    assert [one["name"] for one in loss["series"]] == ["training steps", "training epochs", "validation"]
    assert loss["series"][0]["step"] == [5 * number for number in range(1, 9)]
    assert loss["series"][0]["epoch"] == [number / 2 for number in range(1, 9)]
    assert loss["series"][2]["epoch"] == [1, 2, 3, 4]
    assert curves["restarts"] == {"step": [15], "epoch": [1.5]}


def test_monitored_values_have_panels_of_their_own():
    """Stages, phases and memory share a panel each. Series without values, and panels without series, are omitted."""
    history = make_monitored_history(epochs=2, steps_per_epoch=10)
    panels = {panel["title"]: panel for panel in describe_curves(history)["panels"][4:]}

    assert list(panels) == ["Gradient norm", "Update-to-weight ratio", "Time per step (s)", "Memory (GiB)"]
    names = {title: [one["name"] for one in panel["series"]] for title, panel in panels.items()}
    assert names == {
        "Gradient norm": ["training steps"],
        "Update-to-weight ratio": ["stem", "stage1", "stage2", "stage3", "stage4", "head"],
        "Time per step (s)": ["load", "forward", "backward", "optimizer"],
        "Memory (GiB)": ["current", "peak"],
    }
    assert [one["tone"] for one in panels["Time per step (s)"]["series"]] == [0, 1, 2, 4]
    assert panels["Memory (GiB)"]["series"][1]["value"][0] == 3.0
    assert [panel.get("log") for panel in panels.values()] == [None, True, None, None]


def test_long_curves_keep_their_extremes():
    """A series of 60,000 steps is reduced to 1,200 points, and its lowest and highest value are kept."""
    history = make_history(epochs=3, steps_per_epoch=20_000, print_every=1)
    (series, *_) = describe_curves(history)["panels"][0]["series"]
    losses = history.loc[history["event"] == "train_step", "loss"]

    assert len(series["value"]) <= MAX_POINTS
    assert min(series["value"]) == pytest.approx(losses.min(), rel=1e-5)
    assert max(series["value"]) == pytest.approx(losses.max(), rel=1e-5)


def test_parameters_of_the_recipe_file_do_not_differ():
    """The parameters of an environment do not differ from their file, apart from what the environment sets."""
    recipe, training = _training()
    found = compare_with_recipe(training, recipe, CONF)
    assert found is not None
    assert (found.file, found.differences) == ("base/parameters_training.yml", ())

    recipe, training = _training("imagenet")
    found = compare_with_recipe(training, recipe, CONF)
    assert found is not None
    assert found.file == "recipes/reference.yml"
    assert found.differences == ()


def test_changed_parameters_are_found():
    """A changed value is found with its name and both values. Changed devices and seeds are settings of the run."""
    recipe, training = _training(label_smoothing=0.1, seed=7)
    found = compare_with_recipe(training, recipe, CONF)

    assert found is not None
    assert [(one.name, one.before, one.after) for one in found.differences] == [("label_smoothing", 0.0, 0.1)]


def test_the_parameters_of_a_configuration_are_recognized(tmp_path):
    """A configuration has the recipe of its parameters, with any folders, intervals, workers and ranks."""
    _, training = _training("imagenet")
    config = render_training_config(training, 10, TrainingPaths(tmp_path, tmp_path / "a", tmp_path / "b", tmp_path))
    read = parse_training_config(config.to_yaml(), "config")
    launch = training.launch.model_copy(update={"device": "cpu", "ranks": 1})
    loader = training.loader.model_copy(update={"num_workers": 7})
    other_run = {"launch": launch, "loader": loader, "print_batch_step": 7, "save_interval": 3, "keep_checkpoints": 5}

    assert has_recipe(read, training)
    assert has_recipe(read, training.model_copy(update=other_run))


@pytest.mark.parametrize(
    "changes",
    [
        {"label_smoothing": 0.3},
        {"epochs": 7},
        {"seed": 7},
        {"batch_size_per_rank": 7},
        {"ema_decay": 0.5},
        {"pretrained_model": Path("weights.pdparams")},
        {"optimizer": Momentum(momentum=0.5)},
        {"loader": Loader(num_repeats=3)},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_other_parameters_than_those_of_a_configuration_are_recognized(tmp_path, changes):
    """A configuration does not have the recipe of parameters that would train other weights."""
    _, training = _training()
    config = render_training_config(training, 10, TrainingPaths(tmp_path, tmp_path / "a", tmp_path / "b", tmp_path))

    assert not has_recipe(config, training.model_copy(update=changes))


@pytest.mark.parametrize("recipe", sorted(path.stem for path in (CONF / "recipes").glob("*.yml")))
def test_every_recipe_is_recognized(tmp_path, recipe):
    """Written to a file and read again, the configuration of each recipe has the recipe's parameters."""
    configure_project("resnet50_pipeline")
    extra = {**settings.CONFIG_LOADER_ARGS, "runtime_params": {"recipe": recipe}}
    values = settings.CONFIG_LOADER_CLASS(str(CONF), env="imagenet", **extra)["parameters"]["training"]
    training = TrainingParameters.model_validate(values)
    config = render_training_config(training, 1000, TrainingPaths(tmp_path, tmp_path / "a", tmp_path / "b", tmp_path))

    assert has_recipe(parse_training_config(config.to_yaml(), "config"), training)


def test_a_missing_recipe_file_gives_no_differences(tmp_path):
    """Without the recipe file, for example in a packaged project, nothing is compared."""
    assert compare_with_recipe(_training()[1], None, tmp_path) is None


@pytest.fixture
def trained(tmp_path):
    """An evaluation with its images and their list."""
    evaluation = make_evaluation(class_num=10, images_per_class=20, skill=2)
    rows = evaluation.predictions
    write_digits(tmp_path, rows["path"].tolist())
    lines = [f"{path} {label}\n" for path, label in zip(rows["path"], rows["label"], strict=True)]
    (tmp_path / "list.txt").write_text("".join(lines))
    return evaluation


def _write_config(folder: Path, **changes: Any) -> Path:
    paths = TrainingPaths(folder, train_list=folder / "list.txt", val_list=folder / "list.txt", training_dir=folder)
    config = render_training_config(_training(**changes)[1], 10, paths, tiff=False)
    (folder / "config.yaml").write_text(config.to_yaml())
    return folder / "config.yaml"


def _pixels(sample):
    return cv2.imdecode(np.frombuffer(base64.b64decode(sample.image), np.uint8), cv2.IMREAD_COLOR)


def test_batches_show_what_the_network_sees(trained, tmp_path):
    """The samples have the size of the network's input. Evaluated images equal the transformed files."""
    samples = sample_batches(_write_config(tmp_path), trained.predictions, tmp_path, trained.label_map)

    assert samples is not None
    assert len(samples.training) == len(samples.evaluation) == IMAGES
    for sample in (*samples.training, *samples.evaluation):
        assert _pixels(sample).shape == (32, 32, 3)
    predictions = trained.predictions.set_index("path")
    names = [one["name"] for one in trained.label_map["classes"]]
    originals = {}
    for path in predictions.index:
        image = cv2.resize(cv2.imread(str(tmp_path / path)), (32, 32), interpolation=cv2.INTER_LINEAR)
        originals[path] = image.astype(int)
    for sample in samples.evaluation:
        path = min(originals, key=lambda one: int(np.abs(originals[one] - _pixels(sample)).sum()))
        assert sample.label == names[predictions.loc[path, "label"]]
        assert sample.is_correct == (predictions.loc[path, "top5_ids"][0] == predictions.loc[path, "label"])


def test_mixed_images_have_both_labels(trained, tmp_path):
    """With Mixup, an image has the names of both classes, and their shares."""
    _, training = _training()
    changed = training.train_transform.model_dump(mode="json")
    changed["batch_transform_ops"] = [{"MixupOperator": {"alpha": 1.0}}]
    config = _write_config(tmp_path, train_transform=changed)
    samples = sample_batches(config, trained.predictions, tmp_path, trained.label_map)

    assert samples is not None
    assert any("%" in sample.label and ", " in sample.label for sample in samples.training)


def test_a_missing_list_leaves_out_the_batches(trained, tmp_path, caplog):
    """If the training list or the configuration is missing, there are no samples, and the log says why."""
    config = _write_config(tmp_path)
    (tmp_path / "list.txt").unlink()
    with caplog.at_level("INFO"):
        assert sample_batches(config, trained.predictions, tmp_path, trained.label_map) is None
    assert "list.txt" in caplog.text
