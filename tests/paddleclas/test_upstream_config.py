"""What PaddleClas is given is the same YAML without what it does not know, and what it cannot do is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from resnet50_pipeline.exceptions import ParameterError, TrainingConfigError
from resnet50_pipeline.paddleclas.config import render_training_config
from resnet50_pipeline.paddleclas.upstream import PaddleClasCheckout
from resnet50_pipeline.paddleclas.upstream_config import to_upstream_config
from resnet50_pipeline.parameters import LaunchParameters
from resnet50_pipeline.training_config import AMPConfig, TrainingConfig

STUB = Path(__file__).parents[1] / "stub_paddleclas"


@pytest.fixture
def render(training_parameters, dataset_parameters, striped_dataset):
    """A function from changed parameters to the configuration."""

    def build(**changes: Any) -> TrainingConfig:
        lists = (striped_dataset / f"{split}_list.txt" for split in ("train", "val"))
        return render_training_config(training_parameters(**changes), dataset_parameters, *lists)

    return build


def without(document: dict, *places: str) -> dict:
    """Return the document without the keys at dotted places."""
    for place in places:
        *sections, last = place.split(".")
        section = document
        for name in sections:
            section = section[name]
        del section[last]
    return document


def test_only_native_keys_are_taken_out(render):
    """Everything else is, value by value, what the native trainer reads."""
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
    # Upstream takes this one for a wish where it stands, without a value too.
    if "clip_norm" in expected["Optimizer"]:
        without(expected, "Optimizer.clip_norm")
    assert upstream == expected


def test_paths_are_absolute(render, tmp_path, monkeypatch):
    """Upstream runs in its own folder, where the user's relative paths lead nowhere."""
    monkeypatch.chdir(tmp_path)
    document = yaml.safe_load(to_upstream_config(render(output_dir=Path("out/training")), ranks=1).text)
    assert document["Global"]["output_dir"] == str(tmp_path / "out/training")
    assert document["Global"]["save_inference_dir"] == str(tmp_path / "out/training/inference")


def test_what_upstream_would_ignore_is_refused_by_name(render):
    """All of it in one message, with what to do; the recipe of the sample is such a one."""
    arch = {"name": "ResNet18", "zero_init_residual": True, "batch_norm_momentum": 0.8}
    with pytest.raises(TrainingConfigError) as caught:
        to_upstream_config(render(arch=arch), ranks=1)
    message = str(caught.value)
    assert "Arch.zero_init_residual is True" in message
    assert "Arch.batch_norm_momentum is 0.8" in message
    assert "training.engine: native" in message


def test_operators_that_upstream_does_not_have_are_refused(render):
    """They stand in lists of the data loader; upstream would fail at the first batch, in a worker."""
    config = render(
        train_transform={
            "size": 32,
            "augment_ops": [{"TrivialAugmentWide": {}}],
            "progressive_resize": {"initial_size": 16, "start_epoch": 1, "end_epoch": 2},
        }
    )
    with pytest.raises(TrainingConfigError, match=r"(?s)TrivialAugmentWide is.*ProgressiveResize is"):
        to_upstream_config(config, ranks=1)


def test_what_only_keeps_a_run_safe_is_told_and_not_refused(render):
    """How many sets stay does not change what is trained."""
    upstream = to_upstream_config(render(keep_checkpoints=5, save_interval_steps=3), ranks=1)
    assert upstream.not_honoured == ("Global.save_interval_steps: 3", "Global.keep_checkpoints: 5")


def test_two_cpu_ranks_are_refused(render):
    """They would train an epoch and fail in the evaluation (ParallelEnv().device_id)."""
    with pytest.raises(TrainingConfigError, match=r"2 ranks on cpu.*training\.launch\.devices: \[0\]"):
        to_upstream_config(render(), ranks=2)


def test_a_run_without_an_evaluation_is_refused(render):
    """Upstream evaluates at whole intervals only, not at the end."""
    with pytest.raises(TrainingConfigError, match="eval_interval 3 is above"):
        to_upstream_config(render(eval_interval=3), ranks=1)


def test_mixed_precision_on_a_cpu_is_refused(render):
    """Paddle has no half precision there, and upstream does not emulate it."""
    config = render().model_copy(update={"AMP": AMPConfig(use_promote=True)})
    with pytest.raises(TrainingConfigError, match=r"(?s)use_promote.*AMP on cpu"):
        to_upstream_config(config, ranks=1)


def test_other_weights_than_pdparams_are_refused(render):
    """Upstream would look for `weights.safetensors.pdparams`."""
    config = render()
    settings = config.Global.model_copy(update={"pretrained_model": "weights.safetensors"})
    with pytest.raises(TrainingConfigError, match=r"reads \.pdparams only"):
        to_upstream_config(config.model_copy(update={"Global": settings}), ranks=1)


def test_evaluation_does_without_how_the_weights_came_to_be(render):
    """A network that started with zero scales is evaluated as any other."""
    config = render(arch={"name": "ResNet18", "zero_init_residual": True})
    assert "zero_init_residual" not in to_upstream_config(config, ranks=1, for_training=False).text


def test_the_launch_is_the_one_of_the_reference():
    """`python -u -m paddle.distributed.launch --gpus=… tools/train.py -c …`, in the checkout and importing from it."""
    launch = LaunchParameters(device="gpu", devices=(0, 1, 2, 3))
    command = PaddleClasCheckout(STUB).command("train", Path("/data/config.yaml"), launch, Path("/data/log"))
    assert command.arguments[1:] == (
        *("-u", "-m", "paddle.distributed.launch", "--gpus=0,1,2,3", "--log_dir=/data/log"),
        *(str(STUB / "tools" / "train.py"), "-c", "/data/config.yaml"),
    )
    assert (command.working_dir, command.environment["PYTHONPATH"]) == (STUB, str(STUB))


def test_the_checkout_is_found_by_parameter_or_variable(monkeypatch):
    """The parameter wins; without either the error names both."""
    monkeypatch.setenv("PADDLECLAS_HOME", "/elsewhere")
    assert PaddleClasCheckout.find(STUB).home == STUB
    monkeypatch.setenv("PADDLECLAS_HOME", str(STUB))
    assert PaddleClasCheckout.find(None).home == STUB
    monkeypatch.delenv("PADDLECLAS_HOME")
    with pytest.raises(ParameterError, match=r"training\.paddleclas_home or PADDLECLAS_HOME"):
        PaddleClasCheckout.find(None)


def test_a_folder_without_the_engine_is_refused(tmp_path):
    """The folder of the wheel, say, which has no tools."""
    with pytest.raises(ParameterError, match=r"tools/train\.py and ppcls/engine/engine\.py is not there"):
        PaddleClasCheckout.find(tmp_path)
