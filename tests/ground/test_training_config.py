"""A training configuration follows PaddleClas' schema and has no unused keys."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from placed import PlacedDataset, PlacedTraining, render_training_config
from resnet50_pipeline.exceptions import TrainingConfigError
from resnet50_pipeline.recipe.document import parse_training_config, read_training_config


def render(**changes: object) -> str:
    training = {
        "output_dir": "out",
        "epochs": 4,
        "batch_size_per_rank": 8,
        "eval_batch_size_per_rank": 9,
        "launch": {"device": "cpu", "devices": [0, 1]},
        "lr": {"name": "Cosine", "learning_rate": 0.1},
        "train_transform": {"size": 32},
        "eval_transform": {"resize_short": 36, "size": 32},
        **changes,
    }
    config = render_training_config(
        PlacedTraining.model_validate(training),
        PlacedDataset(root=Path("data/digits"), class_num=10),
        Path("lists/train_list.txt"),
        Path("lists/val_list.txt"),
    )
    return config.to_yaml()


RECIPES = {
    "adamw": {
        "optimizer": {"name": "AdamW", "weight_decay": 0.05, "beta2": 0.95, "one_dim_param_no_weight_decay": True}
    },
    "binary": {"loss": {"name": "MultiLabelLoss", "target_threshold": 0.2}, "label_smoothing": 0.1, "ema_decay": 0.999},
    "half": {"amp": {"use_amp": True, "level": "O2"}, "launch": {"device": "gpu", "devices": [0]}, "update_freq": 4},
    "bfloat16": {"amp": {"use_amp": True, "dtype": "bfloat16"}, "launch": {"device": "gpu", "devices": [0]}},
    "linear": {"lr": {"name": "Linear", "learning_rate": 0.1, "end_lr": 0.01, "warmup_epoch": 1}},
    "tuned": {
        "pretrained_model": "weights/ResNet50_pretrained.pdparams",
        "arch": {"data_format": "NHWC", "freeze": ["stem"], "lr_mult_list": [0.1, 0.1, 0.2, 0.2, 0.3]},
        "optimizer": {"use_nesterov": True, "clip_norm": 1.0, "no_weight_decay_name": "bn"},
    },
}


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_value_round_trips(recipe: str):
    """The YAML contains all values of a recipe, and reading it returns the same configuration."""
    text = render(**RECIPES[recipe])
    assert parse_training_config(text, "test").to_yaml() == text
    expected = {
        "adamw": ("Optimizer", {"name": "AdamW", "beta1": 0.9, "beta2": 0.95, "epsilon": 1e-8, "weight_decay": 0.05}),
        "binary": ("EMA", {"decay": 0.999}),
        "half": ("AMP", {"level": "O2", "dtype": "float16", "scale_loss": 128.0, "use_dynamic_loss_scaling": True}),
        "bfloat16": ("AMP", {"dtype": "bfloat16", "scale_loss": 1.0, "use_dynamic_loss_scaling": False}),
        "linear": ("Optimizer", {"lr": {**yaml.safe_load(text)["Optimizer"]["lr"], "end_lr": 0.01, "power": 1.0}}),
        "tuned": ("Global", {"pretrained_model": "weights/ResNet50_pretrained.pdparams"}),
    }
    section, values = expected[recipe]
    assert values.items() <= yaml.safe_load(text)[section].items()


def test_keys_without_values_are_omitted():
    """`EMA` and `clip_norm` are omitted if they have no value, because PaddleClas only checks for the key."""
    content = yaml.safe_load(render())
    assert not {"EMA", "AMP"} & content.keys()
    assert "clip_norm" not in content["Optimizer"]
    loss = yaml.safe_load(render(loss={"name": "MultiLabelLoss"}))["Loss"]
    assert loss["Train"] == [{"MultiLabelLoss": {"weight": 1.0, "epsilon": None, "size_sum": False}}]
    assert loss["Eval"] == [{"CELoss": {"weight": 1.0, "epsilon": None}}]


def test_deprecated_loss_error_names_successor():
    """The error about MixCELoss identifies its successor."""
    text = render().replace("CELoss:", "MixCELoss:", 1)
    with pytest.raises(TrainingConfigError, match="MixCELoss"):
        parse_training_config(text, "my.yaml")


@given(
    epochs=st.integers(1, 500),
    rate=st.floats(1e-6, 10),
    momentum=st.floats(0, 0.999),
    smoothing=st.sampled_from([0.0, 0.1]),
    flip=st.booleans(),
)
def test_yaml_round_trips(epochs: int, rate: float, momentum: float, smoothing: float, flip: bool):
    """A rendered configuration is read back unchanged."""
    text = render(
        epochs=epochs,
        lr={"name": "Cosine", "learning_rate": rate},
        optimizer={"momentum": momentum},
        label_smoothing=smoothing,
        train_transform={"size": 32, "flip": flip},
    )
    assert parse_training_config(text, "test").to_yaml() == text


@pytest.mark.parametrize(
    ("section", "key"),
    [
        (("Global",), "use_xpu"),
        (("Arch",), "stem_act"),
        (("Optimizer",), "weight_decay"),
        (("Optimizer", "lr"), "last_epoch"),
        (("DataLoader", "Train", "sampler"), "num_instances"),
        (("DataLoader", "Train", "dataset"), "delimiter"),
        ((), "Slim"),
    ],
)
def test_unsupported_keys_are_rejected_by_name(section: tuple[str, ...], key: str):
    """An unsupported key is rejected, and the error identifies its path."""
    content = yaml.safe_load(render())
    target = content
    for name in section:
        target = target[name]
    target[key] = True
    with pytest.raises(TrainingConfigError, match=key):
        parse_training_config(yaml.safe_dump(content), "my.yaml")


def test_all_mistakes_are_reported_at_once():
    """All mistakes are reported at once."""
    content = yaml.safe_load(render())
    content["Global"]["epochs"] = "many"
    del content["Arch"]["class_num"]
    with pytest.raises(TrainingConfigError) as caught:
        parse_training_config(yaml.safe_dump(content), "my.yaml")
    assert len(str(caught.value).splitlines()) == 2


def test_yaml_that_would_run_code_is_rejected(tmp_path: Path):
    """YAML tags that would build Python objects are rejected."""
    path = tmp_path / "evil.yaml"
    path.write_text(f"Global: !!python/object/apply:os.system ['touch {tmp_path}/owned']\n")
    with pytest.raises(TrainingConfigError, match="not a YAML file"):
        read_training_config(path)
    assert not (tmp_path / "owned").exists()


def test_missing_file_is_named(tmp_path: Path):
    """The error about a missing file includes its path."""
    with pytest.raises(TrainingConfigError, match=r"absent\.yaml"):
        read_training_config(tmp_path / "absent.yaml")


def test_piecewise_never_writes_learning_rate():
    """Piecewise never writes `learning_rate`. If it did, PaddleClas would ignore decay_epochs and values."""
    content = yaml.safe_load(render(lr={"name": "Piecewise", "decay_epochs": [2], "values": [0.1, 0.01]}))
    assert content["Optimizer"]["lr"] == {
        "name": "Piecewise",
        "decay_epochs": [2],
        "values": [0.1, 0.01],
        "warmup_epoch": 0,
        "warmup_start_lr": 0.0,
        "by_epoch": False,
    }
