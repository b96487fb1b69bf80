"""Checks of the PaddleClas engine: checkout, imports, command, YAML and unsupported recipes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from resnet50_pipeline.preflight.checkpoints import check_disk, check_start
from resnet50_pipeline.preflight.engine import check_engine
from resnet50_pipeline.preflight.plan import RunPlan, make_plan
from resnet50_pipeline.preflight.ranks import check_ranks, probing

STUB = Path(__file__).parents[1] / "stub_paddleclas"


@pytest.fixture(autouse=True)
def no_checkout_of_the_machine(monkeypatch):
    """Hide any checkout on the developer's machine from the tests."""
    monkeypatch.delenv("PADDLECLAS_HOME", raising=False)


@pytest.fixture
def plan(training_parameters, dataset_parameters, tmp_path) -> Callable[..., RunPlan]:
    """Return a function that plans a run with the given changes to `training`, on loose files or shards."""

    def build(mode: str | None = None, **changes: Any) -> RunPlan:
        parameters = {
            "data_preparation": {"shards": {"mode": mode}},
            "dataset": dataset_parameters,
            "training": training_parameters(**{"engine": "paddleclas", "paddleclas_home": STUB, **changes}),
            "tracking": {"uri": "sqlite:///mlflow.db", "experiment": "e", "artifact_root": "a"},
        }
        names = ("dataset_root", "train_list", "val_list", "shards", "training_dir")
        paths = {name: tmp_path / name for name in names}
        return make_plan(parameters, paths, tmp_path, makes_sample=False)

    return build


def test_the_native_engine_needs_no_checkout(plan):
    """The native engine produces no finding."""
    assert list(check_engine(plan(engine="native", paddleclas_home=None))) == []


def test_the_command_runs_the_program_of_the_checkout(plan):
    """The command runs upstream's tools/train.py in the checkout folder, with a YAML file for upstream."""
    planned = plan()
    (finding,) = check_engine(planned)
    assert finding.status == "ok"
    assert str(STUB) in finding.found
    command = planned.command()
    assert command.working_dir == STUB
    assert command.arguments[1:5] == ("-u", "-m", "paddle.distributed.launch", "--nproc_per_node=1")
    assert command.arguments[-3] == str(STUB / "tools" / "train.py")
    name, text = planned.config_file()
    assert command.arguments[-1].endswith(name)
    assert "keep_checkpoints" not in yaml.safe_load(text)["Global"]


def test_a_missing_checkout_blocks_but_the_command_is_known(plan):
    """Without a checkout, the command contains $PADDLECLAS_HOME instead of the folder."""
    planned = plan(paddleclas_home=None)
    (finding,) = check_engine(planned)
    assert finding.status == "blocking"
    assert "training.paddleclas_home" in finding.remedy
    assert planned.command().arguments[-3] == "$PADDLECLAS_HOME/tools/train.py"


def test_an_unsupported_recipe_blocks(plan):
    """Two CPU ranks, which upstream's evaluation does not support, are reported before the data is read."""
    (finding,) = check_engine(plan(ranks=2))
    assert finding.status == "blocking"
    assert "training.launch.devices" in finding.remedy


def test_several_machines_block(plan):
    """The engine supports only one machine, so elastic training from one to two machines blocks too."""
    launch = {"device": "cpu", "devices": [0], "nnodes": "1:2", "master": "etcd://10.0.0.1:2379"}
    (finding,) = check_engine(plan(launch=launch))
    assert finding.status == "blocking"
    assert "1:2" in finding.remedy


def test_shards_block_the_paddleclas_engine(plan):
    """PaddleClas reads only loose files, so an error is reported up front rather than after hours of packing."""
    (finding,) = check_engine(plan(mode="original"))
    assert finding.status == "blocking"
    assert "data_preparation.shards.mode" in finding.remedy
    assert list(check_engine(plan(mode="original", engine="native"))) == []


def test_the_required_space_includes_every_saved_epoch(plan):
    """With PaddleClas, the required disk space includes the weights of all saved epochs."""
    training = plan(epochs=120, save_interval=10).training
    assert check_disk(training, 10, training.output_dir).needed.startswith("1.21 GiB ")


def test_checkpoints_of_the_native_engine_cannot_be_resumed(plan):
    """The PaddleClas engine resumes only from its own checkpoints."""
    training = plan(resume=True).training
    (training.output_dir / "checkpoints" / "epoch-0001").mkdir(parents=True)
    assert check_start(training, training.output_dir).status == "blocking"


@pytest.mark.slow
def test_the_probe_imports_the_engine_of_the_checkout(plan, tmp_path):
    """A separate process imports the engine, and a failed import is reported with its message."""
    for planned, problem in ((plan(), None), (plan(paddleclas_home=broken_checkout(tmp_path)), "no module of mine")):
        launch = planned.training.launch
        with probing(planned.command(), launch, planned.checkout, every_device=False) as wait:
            refused = [one for one in check_ranks(wait(), launch) if one.status == "blocking"]
        assert [one.check for one in refused] == ([] if problem is None else ["trainer"])
        assert problem is None or problem in refused[0].found


def broken_checkout(tmp_path: Path) -> Path:
    home = tmp_path / "broken"
    for name, code in (("tools/train.py", ""), ("ppcls/engine/engine.py", "raise ImportError('no module of mine')\n")):
        (home / name).parent.mkdir(parents=True)
        (home / name).write_text(code)
    return home
