"""Mistakes in the options of `kedro run` are reported in one message that lists the valid names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from kedro.pipeline import Node, Pipeline

from resnet50_pipeline.commands import selection
from resnet50_pipeline.commands.config_option import ConfigOption
from resnet50_pipeline.commands.parameter_errors import describe_invalid_parameters
from resnet50_pipeline.commands.params_option import parse_params
from resnet50_pipeline.commands.predict import find_images
from resnet50_pipeline.commands.selection import require_known_runner, require_known_selection
from resnet50_pipeline.exceptions import DatasetNotFoundError, ParameterError
from resnet50_pipeline.parameters import TrainingParameters, read_group
from resnet50_pipeline.preflight.dataset import require_sample
from resnet50_pipeline.recipes import RecipeConfigLoader
from striped_dataset import build_training_parameters

CONF = Path(__file__).parents[2] / "conf"
NOTHING = dict.fromkeys(("tags", "node_names", "from_nodes", "to_nodes", "from_inputs", "to_outputs", "namespaces"), ())


@pytest.fixture(autouse=True)
def chain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two nodes as the default pipeline."""
    nodes = [
        Node(str.strip, "raw", "stripped", name="strip", tags=["text"]),
        Node(str.upper, "stripped", "result", name="upper_case"),
    ]
    monkeypatch.setattr(selection, "pipelines", {"__default__": Pipeline(nodes)})


def select(**given: Any) -> None:
    require_known_selection({"pipelines": [], "pipeline": None, **NOTHING, **given}, "test")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"from_nodes": ["upper_cas"]}, "--from-nodes.*upper_cas.*did you mean upper_case"),
        ({"to_nodes": ["other"]}, "--to-nodes.*other.*known: strip, upper_case"),
        ({"node_names": ("stirp",)}, "--nodes.*stirp.*did you mean strip"),
        ({"tags": ("txt",)}, "--tags.*txt.*did you mean text"),
        ({"to_outputs": ["reslt"]}, "--to-outputs.*reslt.*did you mean result"),
        ({"from_inputs": ["stript"]}, "--from-inputs.*stript.*did you mean stripped"),
        ({"namespaces": ["space"]}, "--namespaces.*space.*known: none"),
        ({"from_nodes": ["upper_case"], "to_nodes": ["strip"]}, "--from-nodes, --to-nodes"),
    ],
)
def test_a_misspelled_selection_names_what_exists(given: dict[str, Any], expected: str) -> None:
    """An unknown node, dataset or tag causes an error with a suggestion. A selection without nodes is also an error."""
    with pytest.raises(ParameterError, match=expected):
        select(**given)


def test_existing_names_are_accepted() -> None:
    """Names of nodes, datasets and tags are accepted, alone and together."""
    select()
    select(from_nodes=["strip"], to_outputs=["result"], tags=("text",))


def test_an_unknown_runner_is_an_error() -> None:
    """A runner that Kedro cannot import is an error; Kedro's own runners and class paths are accepted."""
    require_known_runner(None)
    require_known_runner("kedro.runner.ThreadRunner")
    for name in ("SequentialRuner", "no.such.Runner", "module."):
        with pytest.raises(ParameterError, match=name):
            require_known_runner(name)


@pytest.mark.parametrize("content", ["", "run:\n", "[1, 2]", "other: {env: test}", "run: {env: [", "\xff"])
def test_a_config_file_without_options_is_an_error(tmp_path: Path, content: str) -> None:
    """A file that is empty, lacks a `run` group or is not YAML causes exit code 2 and an error that names the file."""
    path = tmp_path / "options.yml"
    path.write_bytes(content.encode("latin-1"))
    result = CliRunner().invoke(click.Command("run", params=[ConfigOption()]), ["--config", str(path)])
    assert result.exit_code == 2
    assert str(path) in result.output
    assert isinstance(result.exception, SystemExit)


def test_a_config_file_sets_options(tmp_path: Path) -> None:
    """The options in the file become the defaults of the command."""
    path = tmp_path / "options.yml"
    path.write_text("run: {env: imagenet}\n")
    found: list[str] = []
    params = [ConfigOption(), click.Option(["--env"])]
    command = click.Command("run", params=params, callback=lambda config, env: found.append(env))
    assert CliRunner().invoke(command, ["--config", str(path)]).exit_code == 0
    assert found == ["imagenet"]


def test_an_unknown_environment_names_the_known_ones() -> None:
    """For a misspelled environment, the error suggests a name; for any other name, it lists the environments."""
    with pytest.raises(ParameterError, match=r"'imagnet'.*did you mean imagenet"):
        RecipeConfigLoader(CONF, env="imagnet", base_env="base", default_run_env="local")["parameters"]
    with pytest.raises(ParameterError, match=r"'xyz'.*known: base, dvc, imagenet, local, test|known: .*imagenet"):
        RecipeConfigLoader(CONF, env="xyz", base_env="base", default_run_env="local")["parameters"]


def test_preflight_rejects_what_the_run_rejects() -> None:
    """In a sample environment, other dataset folders are rejected, because the sample would replace them."""
    require_sample("test", {"training": {"epochs": 1}}, is_sample=True)
    with pytest.raises(ParameterError, match=r"dataset.root=/mine"):
        require_sample("test", {"dataset": {"root": "/mine"}}, is_sample=True)


def test_a_rule_for_a_whole_group_names_the_group_and_shows_no_fragment(tmp_path: Path) -> None:
    """An error about a rule that compares two values of `training` is one line without a fragment of the group."""
    values = build_training_parameters(tmp_path).model_dump(mode="json", exclude_none=True, exclude={"output_dir"})
    values["lr"] = {**values["lr"], "warmup_epoch": values["epochs"]}
    with pytest.raises(ParameterError) as caught:
        read_group({"training": values}, "training", TrainingParameters)
    line = describe_invalid_parameters(f"Parameter validation failed:\n{caught.value}").splitlines()[-1]
    assert line.startswith("training: lr.warmup_epoch")
    assert "found" not in line


def test_an_unknown_parameter_suggests_the_nested_one_with_this_name(tmp_path: Path) -> None:
    """If a parameter is missing its group, the error suggests the complete name instead of listing all names."""
    values = build_training_parameters(tmp_path).model_dump(mode="json", exclude_none=True, exclude={"output_dir"})
    with pytest.raises(ParameterError) as caught:
        read_group({"training": {**values, "learning_rate": 0.1}}, "training", TrainingParameters)
    line = describe_invalid_parameters(str(caught.value)).splitlines()[-1]
    assert line == ("training.learning_rate: there is no such parameter; did you mean training.lr.learning_rate?")


def test_a_url_is_not_a_path() -> None:
    """URLs are rejected as images or folders, because they would become relative paths. MLflow's URL is accepted."""
    with pytest.raises(DatasetNotFoundError, match=r"https://example\.org/a\.jpg is a URL"):
        list(find_images(Path(), ["https://example.org/a.jpg"]))
    with pytest.raises(ValueError, match="s3://bucket/images is a URL"):
        parse_params(["dataset.root=s3://bucket/images"])
    assert parse_params(["tracking.uri=http://localhost:5000"]) == {"tracking": {"uri": "http://localhost:5000"}}
