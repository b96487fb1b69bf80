"""The engine of PaddleClas: its checkout, its imports, its command, its YAML, and recipes that are not for it."""

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
    """A developer's own checkout is none of these tests' business."""
    monkeypatch.delenv("PADDLECLAS_HOME", raising=False)


@pytest.fixture
def plan(training_parameters, dataset_parameters, tmp_path) -> Callable[..., RunPlan]:
    """Return a function that plans a run with changed `training`, on loose files or on shards."""

    def build(mode: str | None = None, **changes: Any) -> RunPlan:
        parameters = {
            "data_preparation": {"shards": {"mode": mode, "output_dir": tmp_path / "shards"}},
            "dataset": dataset_parameters,
            "training": training_parameters(**{"engine": "paddleclas", "paddleclas_home": STUB, **changes}),
            "tracking": {"uri": "sqlite:///mlflow.db", "experiment": "e", "artifact_root": "a"},
        }
        names = {"train_list": "train_list.txt", "val_list": "val_list.txt", "shards": "shards"}
        paths = {name: tmp_path / file for name, file in names.items()}
        return make_plan(parameters, paths, tmp_path, makes_sample=False)

    return build


def test_the_native_engine_needs_no_checkout(plan):
    """Nothing is asked, and no line is shown."""
    assert list(check_engine(plan(engine="native", paddleclas_home=None))) == []


def test_a_checkout_is_found_and_its_program_launched(plan):
    """The command is upstream's own, in its folder, with the YAML that is written for it."""
    planned = plan()
    (finding,) = check_engine(planned)
    assert (finding.status, finding.found) == ("ok", f"PaddleClas in {STUB}")
    command = planned.command()
    assert command.working_dir == STUB
    assert command.arguments[1:5] == ("-u", "-m", "paddle.distributed.launch", "--nproc_per_node=1")
    assert command.arguments[-3] == str(STUB / "tools" / "train.py")
    name, text = planned.config_file()
    assert command.arguments[-1].endswith(name)
    assert "keep_checkpoints" not in yaml.safe_load(text)["Global"]


def test_a_missing_checkout_is_refused_and_the_command_still_shown(plan):
    """What would be started is known but for the folder."""
    planned = plan(paddleclas_home=None)
    (finding,) = check_engine(planned)
    assert finding.status == "blocking"
    assert "training.paddleclas_home or PADDLECLAS_HOME" in finding.remedy
    assert planned.command().arguments[-3] == "$PADDLECLAS_HOME/tools/train.py"


def test_a_recipe_that_is_not_for_it_is_refused_before_the_data_is_read(plan):
    """Two ranks on a CPU, which upstream's evaluation cannot: said now, and not after validation."""
    (finding,) = check_engine(plan(ranks=2))
    assert finding.status == "blocking"
    assert "training.launch.devices: [0]" in finding.remedy


def test_shards_are_refused_before_they_are_packed(plan):
    """It opens loose files only, and packing takes hours: the parameter is named before the first node."""
    (finding,) = check_engine(plan(mode="original"))
    assert finding.status == "blocking"
    assert "PaddleClas' dataset opens loose files only; set data_preparation.shards.mode: null" in finding.remedy
    assert list(check_engine(plan(mode="original", engine="native"))) == []


def test_it_keeps_the_sets_of_all_epochs(plan):
    """The room asked for is that of every saved epoch, the best and the latest."""
    training = plan(epochs=120, save_interval=10).training
    assert check_disk(training, 10, training.output_dir).needed.startswith("1.2 GiB ((epochs / save_interval + 2) x ")


def test_it_resumes_from_what_it_has_saved_itself(plan):
    """A checkpoint set of the native engine is nothing to go on from."""
    training = plan(resume=True).training
    (training.output_dir / "checkpoints" / "epoch-0001").mkdir(parents=True)
    assert check_start(training, training.output_dir).status == "blocking"


@pytest.mark.slow
def test_its_imports_are_tried_where_its_ranks_import_from(plan, tmp_path):
    """The engine's own module is imported in a process; one that cannot be is named."""
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
