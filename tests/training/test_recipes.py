"""Every recipe has the values of its source, can be selected by name, and trains."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from placed import PlacedDataset, PlacedTraining
from resnet50_pipeline.events import EpochEnd, Finished, read_events
from resnet50_pipeline.exceptions import ParameterError
from resnet50_pipeline.paddleclas.config import TrainingPaths, render_training_config
from resnet50_pipeline.parameters import RUN_SETTINGS, DatasetParameters, TrainingParameters
from resnet50_pipeline.recipes import RecipeConfigLoader, apply_recipe, read_recipe
from resnet50_pipeline.settings import CONFIG_LOADER_ARGS
from resnet50_pipeline.training_dir import events_path
from short_training import train

PROJECT = Path(__file__).parents[2]
RECIPES = sorted(path.stem for path in (PROJECT / "conf" / "recipes").glob("*.yml"))

MIXES = [
    {"OpSampler": {"MixupOperator": {"alpha": 0.2, "prob": 0.5}, "CutmixOperator": {"alpha": 1.0, "prob": 0.5}}},
]
MIXES_LESS = [
    {"OpSampler": {"MixupOperator": {"alpha": 0.1, "prob": 0.5}, "CutmixOperator": {"alpha": 1.0, "prob": 0.5}}},
]
TIMM = {"interpolation": "bicubic", "mean": [0.485, 0.456, 0.406], "prob": 1.0}
AMP = {"use_amp": True, "level": "O1", "dtype": "float16", "scale_loss": 128.0, "use_dynamic_loss_scaling": True}
NVIDIA = {"name": "Momentum", "momentum": 0.875, "one_dim_param_no_weight_decay": True}
ADAMW = {"name": "AdamW", "weight_decay": 0.05, "one_dim_param_no_weight_decay": True}
BCE = {"MultiLabelLoss": {"weight": 1.0, "epsilon": None, "size_sum": False, "target_threshold": 0.2}}
SMOOTHED_BCE = {"MultiLabelLoss": {**BCE["MultiLabelLoss"], "epsilon": 0.1}}
SMOOTHED_CE = {"CELoss": {"weight": 1.0, "epsilon": 0.1}}
A_CROP = {"interpolation": "random", "backend": "pil", "use_log_aspect": True}
A_EVAL = {"resize_short": 235, "interpolation": "bicubic", "backend": "pil"}
A_LR = {"name": "Cosine", "learning_rate": 0.002, "warmup_epoch": 5, "warmup_start_lr": 0.0001, "by_epoch": True}


def a_crop(magnitude: int, size: int) -> list[dict[str, Any]]:
    augment = {"TimmAutoAugment": {"config_str": f"rand-m{magnitude}-mstd0.5-inc1", "img_size": size, **TIMM}}
    return [{"RandCropImage": {"size": size, **A_CROP}}, {"RandFlipImage": {"flip_code": 1}}, augment]


# Values of the rendered YAML that differ from the reference, keyed by section. They are copied from the source that
# each recipe names. test_reference_recipe.py compares every value of the reference itself.
RENDERED: dict[str, dict[str, Any]] = {
    "reference": {"epochs": 120, "batch": (64, 1), "lr": {"name": "Piecewise", "values": [0.1, 0.01, 0.001, 0.0001]}},
    "cosine-90": {
        "epochs": 90,
        "batch": (256, 1),
        "amp": AMP,
        "arch": {"data_format": "NHWC"},
        "loss": SMOOTHED_CE,
        "optimizer": {**NVIDIA, "regularizer": {"name": "L2", "coeff": 1 / 32768}},
        "lr": {"name": "Cosine", "learning_rate": 2.048, "warmup_epoch": 5, "warmup_start_lr": 0.0, "eta_min": 0.0},
        "train": [{"RandCropImage": {"size": 224}}, {"RandFlipImage": {"flip_code": 1}}],
        "eval": [{"ResizeImage": {"resize_short": 256}}, {"CropImage": {"size": 224}}],
    },
    "fast-40": {
        "epochs": 40,
        "batch": (512, 1),
        "amp": AMP,
        "arch": {"data_format": "NHWC"},
        "loss": SMOOTHED_CE,
        "optimizer": {"momentum": 0.9, "regularizer": {"name": "L2", "coeff": 1e-4}},
        "lr": {"name": "Linear", "learning_rate": 1.7, "warmup_epoch": 2, "warmup_start_lr": 1.7e-4, "end_lr": 0.0},
        "train": [{"RandCropImage": {"size": 192, "interpolation": "area", "use_log_aspect": True}}],
        "dataset": {"progressive_resize": {"initial_size": 160, "start_epoch": 30, "end_epoch": 35, "divisor": 32}},
        "sampler": {"drop_last": True},
        "eval": [{"ResizeImage": {"resize_short": 293, "interpolation": "area"}}, {"CropImage": {"size": 256}}],
    },
    "finetune": {
        "epochs": 50,
        "batch": (32, 1),
        "ema": {"decay": 0.9},
        "loss": SMOOTHED_CE,
        "arch": {"lr_mult_list": [0.1, 0.1, 0.2, 0.2, 0.3], "freeze": ["stem", "blocks"], "thaw_epoch": 3},
        "optimizer": {"momentum": 0.9, "use_nesterov": True, "regularizer": {"name": "L2", "coeff": 1e-4}},
        "lr": {"name": "Cosine", "learning_rate": 0.03, "warmup_epoch": 1, "eta_min": 0.0},
        "train": [
            {"RandCropImage": {"size": 224, "scale": [0.35, 1.0]}},
            {"RandFlipImage": {"flip_code": 1}},
            {"ColorJitter": {"brightness": 0.2, "contrast": 0.2, "saturation": 0.2, "hue": 0.0}},
        ],
        "eval": [{"ResizeImage": {"resize_short": 256}}, {"CropImage": {"size": 224}}],
    },
    "from-scratch-small": {
        "epochs": 200,
        "batch": (32, 1),
        "ema": {"decay": 0.95},
        "loss": SMOOTHED_CE,
        "arch": {"zero_init_residual": True},
        "optimizer": {"momentum": 0.9, "use_nesterov": True, "regularizer": {"name": "L2", "coeff": 5e-4}},
        "lr": {"name": "Cosine", "learning_rate": 0.05, "warmup_epoch": 5, "eta_min": 0.0},
        "train": [{"RandCropImage": {"size": 224, "scale": [0.25, 1.0]}}, {"TrivialAugmentWide": {}}],
        "eval": [{"ResizeImage": {"resize_short": 256}}, {"CropImage": {"size": 224}}],
    },
    "strong": {
        "epochs": 600,
        "batch": (256, 1),
        "ema": {"decay": 0.99996585},
        "loss": SMOOTHED_CE,
        "optimizer": {"momentum": 0.9, "regularizer": {"name": "L2", "coeff": 2e-5}},
        "lr": {"learning_rate": 0.5, "warmup_epoch": 5, "warmup_start_lr": 0.005, "by_epoch": True},
        "train": [
            {"RandCropImage": {"size": 176, "backend": "pil", "use_log_aspect": True}},
            {"TrivialAugmentWide": {"num_magnitude_bins": 31, "interpolation": "nearest"}},
            {"RandomErasing": {"EPSILON": 0.1, "sl": 0.02, "sh": 0.33, "r1": 0.3, "attempt": 10, "mode": "const"}},
        ],
        "dataset": {"batch_transform_ops": MIXES},
        "sampler": {"name": "RASampler", "num_repeats": 4},
        "eval": [{"ResizeImage": {"resize_short": 232, "backend": "pil"}}, {"CropImage": {"size": 224}}],
    },
    "a1": {
        "epochs": 600,
        "batch": (256, 1),
        "amp": AMP,
        "loss": SMOOTHED_BCE,
        "optimizer": ADAMW,
        "lr": A_LR,
        "train": a_crop(7, 224),
        "dataset": {"batch_transform_ops": MIXES},
        "sampler": {"name": "RASampler", "num_repeats": 3},
        "eval": [{"ResizeImage": A_EVAL}, {"CropImage": {"size": 224}}],
    },
    "a2": {
        "epochs": 300,
        "batch": (256, 1),
        "amp": AMP,
        "loss": BCE,
        "optimizer": ADAMW,
        "lr": A_LR,
        "train": a_crop(7, 224),
        "dataset": {"batch_transform_ops": MIXES_LESS},
        "sampler": {"name": "RASampler", "num_repeats": 3},
        "eval": [{"ResizeImage": A_EVAL}],
    },
    "a3": {
        "epochs": 100,
        "batch": (256, 1),
        "amp": AMP,
        "loss": BCE,
        "optimizer": ADAMW,
        "lr": A_LR,
        "train": a_crop(6, 160),
        "dataset": {"batch_transform_ops": MIXES_LESS},
        "sampler": {"name": "DistributedBatchSampler"},
        "eval": [{"ResizeImage": A_EVAL}, {"CropImage": {"size": 224}}],
    },
}


def load_parameters(env: str = "imagenet", **runtime: Any) -> dict[str, Any]:
    loader = RecipeConfigLoader(
        conf_source=str(PROJECT / "conf"),
        env=env,
        runtime_params={"dataset": {"root": "/data/imagenet"}, **runtime},
        **CONFIG_LOADER_ARGS,
    )
    return dict(loader["parameters"])


def render(parameters: dict[str, Any]) -> dict[str, Any]:
    training = TrainingParameters.model_validate(parameters["training"])
    dataset = DatasetParameters.model_validate(parameters["dataset"])
    lists = (Path("train_list.txt"), Path("val_list.txt"))
    paths = TrainingPaths(Path("/data/imagenet"), *lists, Path("training"))
    text = render_training_config(training, dataset.class_num, paths).to_yaml()
    return dict(yaml.safe_load(text))


def assert_holds(found: Any, expected: Any, where: str) -> None:
    """Check that every value of `expected` is in `found`, which may have more keys."""
    if isinstance(expected, dict):
        for name, value in expected.items():
            assert name in found, f"{where}.{name}"
            assert_holds(found[name], value, f"{where}.{name}")
    else:
        assert found == pytest.approx(expected) if isinstance(expected, float) else found == expected, where


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipe_renders_the_values_of_its_source(recipe: str):
    """The rendered YAML has the values of the source. It has AMP, EMA and mixing only if the recipe sets them."""
    expected = RENDERED[recipe]
    found = render(load_parameters(recipe=recipe))
    train = found["DataLoader"]["Train"]
    assert found["Global"]["epochs"] == expected["epochs"]
    assert (train["sampler"]["batch_size"], found["Global"]["update_freq"]) == expected["batch"]
    assert_holds(found["Arch"], {"name": "ResNet50", "zero_init_residual": False, **expected.get("arch", {})}, "Arch")
    assert found["Loss"]["Train"] == [expected.get("loss", {"CELoss": {"weight": 1.0, "epsilon": None}})]
    assert found["Loss"]["Eval"] == [{"CELoss": {"weight": 1.0, "epsilon": None}}]
    for section in ("AMP", "EMA"):
        assert (section in found) == (section.lower() in expected)
        assert_holds(found.get(section), expected.get(section.lower()), section)
    assert_holds(found["Optimizer"], {**expected.get("optimizer", {}), "lr": expected["lr"]}, "Optimizer")
    assert ("batch_transform_ops" in train["dataset"]) == ("batch_transform_ops" in expected.get("dataset", {}))
    assert ("progressive_resize" in train["dataset"]) == ("progressive_resize" in expected.get("dataset", {}))
    assert_holds(train["dataset"], expected.get("dataset", {}), "dataset")
    assert_holds(train["sampler"], {"shuffle": True, "drop_last": False, **expected.get("sampler", {})}, "sampler")
    for split, ops in (("Train", expected.get("train", [])), ("Eval", expected.get("eval", []))):
        given = {next(iter(op)): op for op in found["DataLoader"][split]["dataset"]["transform_ops"]}
        for op in ops:
            assert_holds(given[next(iter(op))], op, split)


def test_every_recipe_has_expected_yaml_and_documentation():
    """Every recipe has expected values in this file, lists its differences from the source, and is documented."""
    assert set(RENDERED) == set(RECIPES)
    for recipe in RECIPES:
        text = (PROJECT / "conf" / "recipes" / f"{recipe}.yml").read_text()
        assert text.startswith("# ")
        assert "ifference" in text
        assert f"| `{recipe}` |" in (PROJECT / "docs" / "recipes.md").read_text()


def test_parameter_sources_have_fixed_precedence():
    """Values from --params override the environment, the recipe and base. A recipe overrides values for the sample."""
    assert load_parameters()["recipe"] == "reference"
    training = load_parameters(recipe="fast-40", training={"epochs": 41})["training"]
    assert training["epochs"] == 41
    assert training["launch"]["devices"] == [0, 1, 2, 3]
    assert training["loader"] == {"num_workers": 4, "drop_last": True}
    assert "zero_init_residual" not in training["arch"]
    assert load_parameters("test")["training"]["arch"]["zero_init_residual"] is True


def test_unset_folders_are_in_the_workspace():
    """Folders that are not configured are in the workspace. Values from --params take precedence, and null is kept."""
    unset = load_parameters()
    assert unset["data_validation"]["scan"]["cache_dir"] == "data/imagenet/02_intermediate/scan_cache"
    assert unset["logs"]["directory"] == "data/imagenet/09_logs"
    assert unset["sweep"]["output_dir"] == "data/imagenet/09_sweeps"
    given = load_parameters(data_validation={"scan": {"cache_dir": None}}, logs={"directory": "elsewhere"})
    assert given["data_validation"]["scan"]["cache_dir"] is None
    assert given["logs"]["directory"] == "elsewhere"


def test_every_environment_except_base_accepts_a_recipe():
    """Any environment except base can use any recipe. In base, a recipe is an error."""
    assert load_parameters("test", recipe="strong")["training"]["ema_decay"] == 0.99996585
    with pytest.raises(ParameterError, match="--env base"):
        load_parameters("base", recipe="strong")


def test_params_override_recipe_without_environment_file(tmp_path: Path):
    """`--params recipe=…,training.…` works with an empty conf/local, and a mistyped key is still an error."""
    shutil.copytree(PROJECT / "conf", tmp_path / "conf", ignore=shutil.ignore_patterns("local"))
    (tmp_path / "conf" / "local").mkdir()

    def load(**training: Any) -> dict[str, Any]:
        runtime = {"recipe": "a3", "training": training}
        loader = RecipeConfigLoader(str(tmp_path / "conf"), runtime_params=runtime, **CONFIG_LOADER_ARGS)
        return dict(loader["parameters"]["training"])

    found = load(epochs=7, images_per_step=None, lr={"warmup_epoch": 2})
    assert (found["epochs"], found["images_per_step"], found["lr"]["warmup_epoch"]) == (7, None, 2)
    assert found["lr"]["name"] == load()["lr"]["name"]
    with pytest.raises(ValidationError, match="foo"):
        TrainingParameters.model_validate(load(foo=3))


BROKEN = [
    ("training: {}\ndataset: {}\ntraining: {}\n", 3, "duplicate key training", "merge both into one `training:`"),
    ("training:\n\tepochs: 3\n", 2, "'\\t'", "use spaces instead of tabs"),
    ("dataset:\n  root: [a\ntraining: {}\n", 3, "expected ',' or ']'", "correct the YAML"),
    ("dataset:\n  root: caf\xe9\n", 2, "byte 20 is not UTF-8", "save the file as UTF-8"),
]


@pytest.mark.parametrize("broken", BROKEN)
@pytest.mark.parametrize("file", ["flowers/parameters.yml", "recipes/reference.yml"])
def test_invalid_yaml_is_reported_with_file_and_line(tmp_path: Path, file: str, broken: tuple[str, int, str, str]):
    """The error contains the file, the line, the problem and what to do."""
    content, line, problem, remedy = broken
    shutil.copytree(PROJECT / "conf", tmp_path / "conf")
    path = tmp_path / "conf" / file
    path.parent.mkdir(exist_ok=True)
    (tmp_path / "conf/flowers/parameters_recipe.yml").parent.mkdir(exist_ok=True)
    (tmp_path / "conf/flowers/parameters_recipe.yml").write_text("recipe: reference\n")
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(ParameterError) as raised:
        _ = RecipeConfigLoader(tmp_path / "conf", env="flowers", **CONFIG_LOADER_ARGS)["parameters"]
    assert str(raised.value).startswith(f"{path}:{line}: ")
    assert problem in str(raised.value)
    assert remedy in str(raised.value)


def test_all_invalid_files_of_an_environment_are_reported(tmp_path: Path):
    """One error lists every file that must be corrected."""
    shutil.copytree(PROJECT / "conf", tmp_path / "conf")
    for name in ("parameters.yml", "parameters_training.yml"):
        (tmp_path / "conf/local" / name).write_text("a: 1\na: 2\n")
    with pytest.raises(ParameterError) as raised:
        _ = RecipeConfigLoader(tmp_path / "conf", **CONFIG_LOADER_ARGS)["parameters"]
    assert str(raised.value).count("parameters") == len(str(raised.value).splitlines()) == 2


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("training: {epochs: 3}\ndataset: {class_num: 2}\n", "dataset"),
        ("training: {epochs: 3, resume: true}\n", "resume"),
        ("training:\n", "None"),
        ("training: a3\n", "a3"),
        ("", "None"),
    ],
)
def test_run_settings_in_recipe_are_rejected(tmp_path: Path, content: str, found: str):
    """A recipe must not be empty, set other parameter groups, or set where and how a run trains."""
    (tmp_path / "mine.yml").write_text(content)
    with pytest.raises(ParameterError, match=found):
        read_recipe(tmp_path, "mine")


@pytest.mark.parametrize("name", ["fast40", "nothing like it", 5, "../base/globals"])
def test_unknown_recipe_error_lists_known_recipes(name: object):
    """The error lists the known recipes and suggests a similar name."""
    with pytest.raises(ParameterError, match=", ".join(RECIPES)) as raised:
        load_parameters(recipe=name)
    assert str(raised.value).count("fast-40") == (2 if name == "fast40" else 1)


def test_run_settings_are_training_fields():
    """Every name in RUN_SETTINGS is a parameter of `training`."""
    assert set(TrainingParameters.model_fields) > RUN_SETTINGS


@pytest.mark.parametrize(
    ("recipe", "changes", "expected"),
    [
        ("reference", {"launch": {"devices": [0]}}, (64, 1)),
        ("reference", {"launch": {"devices": [0]}, "virtual_ranks": None}, (64, 4)),
        ("reference", {"launch": {"devices": [0, 1]}, "max_batch_size_per_rank": 32}, (32, 2)),
        ("reference", {}, (64, 1)),
        ("reference", {"launch": {"devices": list(range(8))}}, (32, 1)),
        ("reference", {"launch": {"nnodes": 2, "master": "10.0.0.1:8765"}}, (32, 1)),
        ("reference", {"max_batch_size_per_rank": 24}, (16, 4)),
        ("reference", {"batch_size_per_rank": 32}, (32, 2)),
        ("reference", {"update_freq": 2, "batch_size_per_rank": 32}, (32, 2)),
        ("cosine-90", {}, (256, 1)),
        ("cosine-90", {"virtual_ranks": None}, (256, 2)),
        ("cosine-90", {"launch": {"devices": list(range(8))}}, (256, 1)),
        ("fast-40", {"launch": {"devices": [0]}}, (512, 1)),
        ("reference", {"images_per_step": None, "batch_size_per_rank": 10, "launch": {"devices": [0, 1, 2]}}, (10, 1)),
    ],
)
def test_images_per_step_are_divided_among_ranks(recipe: str, changes: dict[str, Any], expected: tuple[int, int]):
    """A step has the recipe's number of images on any number of ranks, unless both values are set."""
    rendered = render(load_parameters(recipe=recipe, training=changes))
    assert (rendered["DataLoader"]["Train"]["sampler"]["batch_size"], rendered["Global"]["update_freq"]) == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"launch": {"devices": [0]}}, 4),
        ({"launch": {"devices": [0, 1]}}, 4),
        ({"launch": {"devices": list(range(8))}}, None),
        ({"launch": {"devices": list(range(3))}, "virtual_ranks": 6, "images_per_step": 240}, None),
        (
            {
                "launch": {"devices": list(range(3))},
                "virtual_ranks": 6,
                "images_per_step": 240,
                "deterministic_reduction": False,
            },
            6,
        ),
        ({"launch": {"devices": [0]}, "engine": "paddleclas", "paddleclas_home": "checkout"}, None),
        ({"engine": "paddleclas", "paddleclas_home": "checkout"}, None),
        ({"launch": {"nnodes": "2:4", "master": "etcd://10.0.0.1:2379"}}, None),
        ({"launch": {"devices": [0, 1], "nnodes": "2:4", "master": "etcd://10.0.0.1:2379"}}, None),
    ],
)
def test_ranks_share_virtual_ranks_if_they_can(changes: dict[str, Any], expected: int | None):
    """Ranks share the virtual ranks if their number allows it. Otherwise, each rank has one part."""
    assert render(load_parameters(recipe="reference", training=changes))["Global"].get("virtual_ranks") == expected


@pytest.mark.parametrize(
    ("changes", "numbers"),
    [
        ({"launch": {"devices": list(range(8))}, "deterministic_reduction": True}, ("8", "4")),
        ({"launch": {"devices": [0, 1, 2]}}, ("252", "258")),
        ({"images_per_step": 2}, ("4",)),
        ({"images_per_step": 4 * 257}, ("1024", "1032")),
        ({"batch_size_per_rank": 48}, ("256", "192")),
        ({"batch_size_per_rank": 64, "update_freq": 2}, ("256", "512")),
    ],
)
def test_indivisible_images_per_step_are_rejected(changes: dict[str, Any], numbers: tuple[str, ...]):
    """The error names the nearest numbers of images that can be divided, or the two contradictory numbers."""
    with pytest.raises(ValidationError) as raised:
        render(load_parameters(recipe="reference", training=changes))
    assert all(number in str(raised.value) for number in numbers)


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.parametrize("recipe", [name for name in RECIPES if name != "reference"])
def test_recipe_trains(recipe: str, dataset_parameters: PlacedDataset, training_parameters):
    """A small version of each recipe trains to the end, without half precision."""
    values = small(read_recipe(PROJECT / "conf" / "recipes", recipe))
    run = training_parameters().model_dump(include=RUN_SETTINGS)
    merged = apply_recipe({"training": {**run, "loader": {"num_workers": 0}}}, values)["training"]
    merged["output_dir"] = training_parameters().output_dir
    folder = train(PlacedTraining.model_validate(merged), dataset_parameters)
    events = read_events(events_path(folder))
    assert isinstance(events[-1], Finished)
    assert [event.epoch for event in events if isinstance(event, EpochEnd)] == list(range(1, values["epochs"] + 1))


def small(recipe: dict[str, Any]) -> dict[str, Any]:
    """Return the recipe with the same keys, but for 36 images of 32x32 pixels on a CPU."""
    epochs = 3
    step = {
        "max_batch_size_per_rank": 6,
        "images_per_step": 12,
        **({"virtual_ranks": 2} if "virtual_ranks" in recipe else {}),
    }
    values = {**recipe, "epochs": epochs, **(step if "images_per_step" in recipe else {"batch_size_per_rank": 6})}
    values["arch"] = {**recipe["arch"], "name": "ResNet18"}
    values["lr"] = {**recipe["lr"], "learning_rate": 0.01, "warmup_epoch": 1, "warmup_start_lr": 0.001}
    values.pop("amp", None)  # Paddle does not support half precision on CPUs
    values["train_transform"] = {**recipe["train_transform"], "size": 32}
    if "progressive_resize" in values["train_transform"]:
        values["train_transform"]["progressive_resize"] = {"initial_size": 16, "start_epoch": 1, "end_epoch": 3}
    values["eval_transform"] = {**recipe["eval_transform"], "resize_short": 34, "size": 32}
    return values
