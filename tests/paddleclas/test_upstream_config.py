"""PaddleClas gets the same YAML file without native keys, and unsupported settings are rejected."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from placed import render_training_config
from resnet50_pipeline.exceptions import ParameterError, TrainingConfigError
from resnet50_pipeline.paddleclas.config import TrainingPaths
from resnet50_pipeline.paddleclas.config import render_training_config as render_config
from resnet50_pipeline.paddleclas.upstream.checkout import PaddleClasCheckout
from resnet50_pipeline.paddleclas.upstream.config import to_upstream_config
from resnet50_pipeline.parameters import LaunchParameters
from resnet50_pipeline.recipe.document import TrainingConfig
from resnet50_pipeline.recipe.precision import AMPConfig

STUB = Path(__file__).parents[1] / "stub_paddleclas"


@pytest.fixture
def render(training_parameters, dataset_parameters, striped_dataset):
    """Return a function that renders changed parameters."""

    def build(**changes: Any) -> TrainingConfig:
        lists = (striped_dataset / f"{split}_list.txt" for split in ("train", "val"))
        return render_training_config(training_parameters(**changes), dataset_parameters, *lists)

    return build


def without(document: dict, *places: str) -> dict:
    """Return the document without the keys at the given dotted paths."""
    for place in places:
        *sections, last = place.split(".")
        section = document
        for name in sections:
            section = section[name]
        del section[last]
    return document


def test_only_native_keys_are_removed(render):
    """Except for native keys and paths, upstream's configuration has the same values as the native one."""
    config = render()
    native = yaml.safe_load(config.to_yaml())
    upstream = yaml.safe_load(to_upstream_config(config, ranks=1).text)
    expected = without(
        native,
        "Global.keep_checkpoints",
        "Global.save_interval_steps",
        "Arch.zero_init_residual",
        "Arch.batch_norm_momentum",
        "Arch.freeze",
        *(
            f"DataLoader.{split}.loader.{key}"
            for split in ("Train", "Eval")
            for key in ("max_skipped_images", "decode", "normalize_on_device")
        ),
    )
    # Upstream enables this setting if the key exists, even without a value.
    if "clip_norm" in expected["Optimizer"]:
        without(expected, "Optimizer.clip_norm")
    assert upstream == expected


def test_paths_are_absolute(render, tmp_path, monkeypatch):
    """Paths in upstream's configuration are absolute, because upstream runs in its own folder."""
    monkeypatch.chdir(tmp_path)
    document = yaml.safe_load(to_upstream_config(render(output_dir=Path("out/training")), ranks=1).text)
    assert document["Global"]["output_dir"] == str(tmp_path / "out/training")
    assert document["Global"]["save_inference_dir"] == str(tmp_path / "out/training/inference")


def test_settings_that_upstream_ignores_are_rejected(render):
    """One message lists all unsupported settings. The sample's recipe contains some."""
    arch = {"name": "ResNet18", "zero_init_residual": True, "batch_norm_momentum": 0.8}
    with pytest.raises(TrainingConfigError) as caught:
        to_upstream_config(render(arch=arch), ranks=1)
    message = str(caught.value)
    assert "Arch.zero_init_residual is True" in message
    assert "Arch.batch_norm_momentum is 0.8" in message
    assert "training.engine: native" in message


def test_unsupported_operators_are_rejected(render):
    """Unsupported operators are rejected, because upstream would fail in a worker at the first batch."""
    config = render(
        train_transform={
            "size": 32,
            "augment_ops": [{"TrivialAugmentWide": {}}],
            "progressive_resize": {"initial_size": 16, "start_epoch": 1, "end_epoch": 2},
        }
    )
    with pytest.raises(TrainingConfigError, match=r"(?s)TrivialAugmentWide.*ProgressiveResize"):
        to_upstream_config(config, ranks=1)


def test_checkpoint_settings_are_reported_not_rejected(render):
    """Settings that affect only how many checkpoints are kept are reported, but not rejected."""
    upstream = to_upstream_config(render(keep_checkpoints=5, save_interval_steps=3), ranks=1)
    assert upstream.ignored_settings == ("Global.save_interval_steps: 3", "Global.keep_checkpoints: 5")


def test_two_cpu_ranks_are_rejected(render):
    """Two CPU ranks are rejected, because upstream's evaluation would fail (ParallelEnv().device_id)."""
    with pytest.raises(TrainingConfigError, match=r"2 ranks on cpu.*training\.launch\.devices: \[0\]"):
        to_upstream_config(render(), ranks=2)


def test_run_without_evaluation_is_rejected(render):
    """An evaluation interval above the number of epochs is rejected, because upstream would never evaluate."""
    with pytest.raises(TrainingConfigError, match="eval_interval 3"):
        to_upstream_config(render(eval_interval=3), ranks=1)


def test_mixed_precision_on_cpu_is_rejected(render):
    """Mixed precision on a CPU is rejected, because Paddle does not support it."""
    config = render().model_copy(update={"AMP": AMPConfig(use_promote=True)})
    with pytest.raises(TrainingConfigError, match=r"(?s)use_promote.*AMP on cpu"):
        to_upstream_config(config, ranks=1)


def test_weights_other_than_pdparams_are_rejected(render):
    """Weights other than .pdparams are rejected, because upstream would append `.pdparams` to the name."""
    config = render()
    settings = config.Global.model_copy(update={"pretrained_model": "weights.safetensors"})
    with pytest.raises(TrainingConfigError, match=r"weights\.safetensors"):
        to_upstream_config(config.model_copy(update={"Global": settings}), ranks=1)


def test_launch_command_matches_reference():
    """The command is `python -u -m paddle.distributed.launch --gpus=… tools/train.py -c …`, run in the checkout."""
    launch = LaunchParameters(device="gpu", devices=(0, 1, 2, 3))
    command = PaddleClasCheckout(STUB).train_command(Path("/data/config.yaml"), launch, Path("/data/log"))
    assert command.arguments[1:] == (
        *("-u", "-m", "paddle.distributed.launch", "--gpus=0,1,2,3", "--log_dir=/data/log"),
        *(str(STUB / "tools" / "train.py"), "-c", "/data/config.yaml"),
    )
    assert (command.working_dir, command.environment["PYTHONPATH"]) == (STUB, str(STUB))


def test_checkout_is_found_by_parameter_or_variable(monkeypatch):
    """The parameter takes precedence; without either, the error lists both."""
    monkeypatch.setenv("PADDLECLAS_HOME", "/elsewhere")
    assert PaddleClasCheckout.find(STUB).home == STUB
    monkeypatch.setenv("PADDLECLAS_HOME", str(STUB))
    assert PaddleClasCheckout.find(None).home == STUB
    monkeypatch.delenv("PADDLECLAS_HOME")
    with pytest.raises(ParameterError, match=r"training\.paddleclas_home.*PADDLECLAS_HOME"):
        PaddleClasCheckout.find(None)


def test_folder_without_engine_is_rejected(tmp_path):
    """A folder without the training engine, such as the wheel's, is rejected."""
    with pytest.raises(ParameterError, match=r"tools/train\.py.*ppcls/engine/engine\.py"):
        PaddleClasCheckout.find(tmp_path)


def test_lists_with_tabs_set_the_delimiter_of_the_dataset(training_parameters, dataset_parameters):
    """Upstream splits lines at a space unless the dataset sets a delimiter. A list with spaces does not need one."""
    paths = TrainingPaths(Path("root"), Path("train_list.txt"), Path("val_list.txt"), Path("training"))
    config = render_config(training_parameters(), dataset_parameters.class_num, paths, ("\t", " "))
    loaders = yaml.safe_load(to_upstream_config(config, ranks=1).text)["DataLoader"]
    assert loaders["Train"]["dataset"]["delimiter"] == "\t"
    assert "delimiter" not in loaders["Eval"]["dataset"]
