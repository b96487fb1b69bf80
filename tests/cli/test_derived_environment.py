"""Without a workspace, an environment's names are derived; with one, it sets everything itself."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from kedro.io import DataCatalog

from resnet50_pipeline.commands.data.review import choose_output
from resnet50_pipeline.files import shorten_path
from resnet50_pipeline.imagenet.lists.fixes import ReviewCommands
from resnet50_pipeline.recipes import RecipeConfigLoader
from resnet50_pipeline.settings import CONFIG_LOADER_ARGS

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def conf(tmp_path) -> Path:
    """A copy of the configuration with an empty environment `birds`."""
    root = tmp_path / "conf"
    shutil.copytree(REPOSITORY / "conf", root, ignore=shutil.ignore_patterns("local"))
    (root / "local").mkdir()
    (root / "birds").mkdir()
    return root


def load(conf: Path, env: str | None = "birds", **params: Any) -> RecipeConfigLoader:
    """Load an environment."""
    return RecipeConfigLoader(str(conf), env=env, runtime_params=params, **CONFIG_LOADER_ARGS)


def test_names_follow_from_the_environment(conf):
    """With only the folder set, the workspace and all names are derived, and the classes are counted."""
    (conf / "birds" / "parameters.yml").write_text("dataset:\n  root: /data/birds\n")
    loaded = load(conf)
    parameters = loaded["parameters"]
    assert loaded["globals"] == {
        "environment": "birds",
        "workspace": "data/birds",
        "dataset_root": "/data/birds",
    }
    assert "root" not in parameters["dataset"]
    assert parameters["dataset"]["class_num"] is None
    assert parameters["model_registration"]["model_name"] == "resnet50-birds"
    assert parameters["evaluation"]["compare_with"] == "models:/resnet50-birds@champion"
    assert parameters["tracking"]["experiment"] == "resnet50-birds"
    assert parameters["sweep"]["study"] == "birds"
    assert parameters["logs"]["directory"] == "data/birds/09_logs"


def test_set_values_override_derived_ones(conf):
    """Values in the files and in --params override derived ones, and the compared model follows the model's name."""
    (conf / "birds" / "parameters.yml").write_text(
        "dataset: {root: /a, class_num: 7}\nmodel_registration: {model_name: m}\n"
    )
    parameters = load(conf)["parameters"]
    assert parameters["dataset"]["class_num"] == 7
    assert parameters["evaluation"]["compare_with"] == "models:/m@champion"
    given = load(conf, dataset={"root": "/b"}, model_registration={"model_name": "n"})
    assert given["catalog"]["dataset_root"]["filepath"] == "/b"
    assert given["parameters"]["evaluation"]["compare_with"] == "models:/n@champion"


def load_review(loaded: RecipeConfigLoader, name: str) -> ReviewCommands:
    """Return the commands in a catalog entry."""
    commands: ReviewCommands = DataCatalog.from_config({name: loaded["catalog"][name]}).load(name)
    return commands


def test_pages_name_the_commands_of_their_environment(conf):
    """The commands contain the environment and `dataset.root` of the run, and none of them by default."""
    (conf / "birds" / "parameters.yml").write_text("dataset:\n  root: /data/birds\n")
    docs, output = "data/birds/08_reporting/data_docs", "data/birds/07_model_output"
    assert load_review(load(conf), "findings_review") == ReviewCommands(
        f"kedro review {docs}/findings.jsonl --env birds",
        f"kedro data-fix {shorten_path(choose_output(Path(docs, 'findings.jsonl'), None, Path(docs)))} --env birds",
    )
    assert load_review(load(conf), "label_issues_review") == ReviewCommands(
        f"kedro review {output}/label_issues.csv --env birds",
        f"kedro data-fix {choose_output(Path(output, 'label_issues.csv'), None, Path(docs))} --env birds",
    )
    default = load_review(load(conf, None), "label_issues_review")
    assert default.review == "kedro review data/sample/07_model_output/label_issues.csv"
    given = load_review(load(conf, dataset={"root": "/my birds"}), "findings_review")
    assert given.review == f"kedro review {docs}/findings.jsonl --env birds --params 'dataset.root=/my birds'"


def test_an_environment_with_a_workspace_is_unchanged(conf):
    """With a workspace in globals.yml, the names match conf/base, as in the default environment."""
    (conf / "birds" / "globals.yml").write_text("workspace: data/elsewhere\ndataset_root: /data/birds\n")
    loaded = load(conf)
    assert loaded["globals"]["workspace"] == "data/elsewhere"
    base = load(conf, "base")["parameters"]
    assert loaded["parameters"]["model_registration"] == base["model_registration"]
    assert load(conf, None)["parameters"]["model_registration"] == base["model_registration"]


def test_the_folder_may_refer_to_environment_variables(conf, monkeypatch):
    """`dataset.root` is resolved like the globals; a `${` in a path is written with a backslash."""
    monkeypatch.setenv("BIRDS", "/data/b")
    (conf / "birds" / "parameters.yml").write_text("dataset:\n  root: ${oc.env:BIRDS}/x\n")
    assert load(conf)["globals"]["dataset_root"] == "/data/b/x"
    (conf / "birds" / "parameters.yml").write_text("dataset:\n  root: /data/\\${x}\n")
    assert load(conf)["catalog"]["dataset_root"]["filepath"] == "/data/${x}"


def leaves(values: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values in nested mappings with their paths, such as `training.epochs`."""
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", value


@pytest.mark.parametrize("name", ["test", "imagenet"])
def test_an_environment_sets_only_what_differs(conf, name):
    """Every value in conf/test and conf/imagenet differs from what it would be without their parameter files."""
    files = sorted((conf / name).glob("parameters*.yml"))
    given = {path: yaml.safe_load(path.read_text()) for path in files}
    assert "workspace" not in yaml.safe_load((conf / name / "globals.yml").read_text())
    for path in files:
        if path.name != "parameters_recipe.yml":
            path.unlink()
    without = dict(leaves(load(conf, name)["parameters"]))
    for path, content in given.items():
        if path.name == "parameters_recipe.yml":
            continue
        for key, value in leaves(content):
            assert key not in without or without[key] != value, f"conf/{name}/{path.name}: {key}"


def test_names_of_the_test_environment_follow(conf):
    """conf/test does not set any names, and its paths are below data/test."""
    loaded = load(conf, "test")
    parameters = loaded["parameters"]
    assert loaded["globals"] == {
        "environment": "test",
        "workspace": "data/test",
        "dataset_root": "data/test/01_raw/digits",
    }
    assert parameters["model_registration"]["model_name"] == parameters["tracking"]["experiment"] == "resnet50-test"
    assert parameters["evaluation"]["compare_with"] == "models:/resnet50-test@champion"
    assert (parameters["sweep"]["study"], parameters["sweep"]["output_dir"]) == ("test", "data/test/09_sweeps")
    assert parameters["dataset"]["class_num"] == 10
