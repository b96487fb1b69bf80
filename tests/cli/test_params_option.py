"""`--params` accepts lists, quoted commas and any folder name, and may be repeated."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from resnet50_pipeline.commands.params_option import ParamsOption, add_params_of_file, parse_params
from resnet50_pipeline.exceptions import ParameterError
from resnet50_pipeline.recipes import RecipeConfigLoader
from resnet50_pipeline.settings import CONFIG_LOADER_ARGS

REPOSITORY = Path(__file__).parents[2]


def parse(*arguments: str, **in_file: Any) -> dict[str, Any]:
    """Return the parameters that a command receives with these arguments and this --config file."""
    found: list[dict[str, Any]] = []

    @click.command(params=[ParamsOption()])
    @click.pass_context
    def command(context: click.Context, /, params: dict[str, Any]) -> None:
        found.append(add_params_of_file(context, params))

    done = CliRunner().invoke(command, arguments, default_map={"params": in_file} if in_file else None)
    assert done.exit_code == 0, done.output
    return found[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("training.launch.devices=[0,1],training.epochs=2", {"training": {"launch": {"devices": [0, 1]}, "epochs": 2}}),
        (
            "training.lr={name: Cosine, learning_rate: 0.1}",
            {"training": {"lr": {"name": "Cosine", "learning_rate": 0.1}}},
        ),
        ("training.resume=auto , training.seed = 7", {"training": {"resume": "auto", "seed": 7}}),
        ("training.images_per_step=null", {"training": {"images_per_step": None}}),
        ("a=1,,b=true,", {"a": 1, "b": True}),
        ("", {}),
    ],
)
def test_values_are_yaml(text, expected):
    """Lists and mappings may contain commas, and spaces around names and values do not matter."""
    assert parse("--params", text) == expected


@pytest.mark.parametrize(
    "name", ["2024", "1e3", "0x10", "true", "null", "01", "nan", "a: b", "x #1", "a=b:c", "@x", "*x"]
)
@pytest.mark.parametrize("key", ["dataset.root", "run_dir", "data_validation.scan.cache_dir"])
def test_a_folder_keeps_its_name(key, name):
    """The value of a path parameter is the text as typed, even if YAML would convert it."""
    value: Any = parse("--params", f"{key}={name}")
    for part in key.split("."):
        value = value[part]
    assert value == (None if (key, name) == ("data_validation.scan.cache_dir", "null") else name)


def test_text_in_a_dictionary_stays_text():
    """Values of the ranks' environment variables are always strings."""
    given = parse("--params", "training.launch.environment.OMP_NUM_THREADS=4")
    assert given == {"training": {"launch": {"environment": {"OMP_NUM_THREADS": "4"}}}}


def test_quotes_keep_commas():
    """A quoted path may contain commas and equals signs."""
    given = parse("--params", """dataset.root="/data/a,b=c",run_dir='x, y',training.epochs=1""")
    assert given == {"dataset": {"root": "/data/a,b=c"}, "run_dir": "x, y", "training": {"epochs": 1}}


def test_the_documented_command():
    """The example in docs/parameters.md sets the folder, the devices and the epochs."""
    page = (REPOSITORY / "docs" / "parameters.md").read_text(encoding="utf-8")
    (line,) = [line for line in page.splitlines() if line.startswith("kedro run --params '")]
    assert parse(*shlex.split(line)[2:]) == {
        "dataset": {"root": "/data/cats, dogs"},
        "training": {"launch": {"devices": [0, 1]}, "epochs": 2},
    }


def test_the_home_folder_is_expanded(monkeypatch):
    """The option expands `~` in a path, because the shell only does so at the beginning of a word."""
    monkeypatch.setenv("HOME", "/home/ada")
    assert parse("--params", "dataset.root=~/imagenet") == {"dataset": {"root": "/home/ada/imagenet"}}


@pytest.mark.parametrize("root", ["/data/i${x}", "/data/{x}", r"/data/\${x}", "/data/$x", "${HOME}"])
def test_dollars_and_braces_reach_the_catalog(root):
    """The configuration does not replace `${…}` in a path from the command line."""
    given = parse("--params", f"dataset.root={root}")
    loader = RecipeConfigLoader(str(REPOSITORY / "conf"), env="test", runtime_params=given, **CONFIG_LOADER_ARGS)
    assert loader["catalog"]["dataset_root"]["filepath"] == root


def test_later_values_win():
    """Repeated options are merged, in their order."""
    first, second = "training.seed=1,training.epochs=2", "training.seed=3,dataset.root=/x"
    given = parse("--params", first, "--params", second)
    assert given == {"training": {"seed": 3, "epochs": 2}, "dataset": {"root": "/x"}}


def test_the_command_line_overrides_the_run_file():
    """Parameters on the command line are merged with those of --config instead of replacing them all."""
    in_file = {"training": {"epochs": 3, "seed": 1}, "run_dir": "x"}
    assert parse("--params", "training.seed=2", **in_file) == {"training": {"epochs": 3, "seed": 2}, "run_dir": "x"}
    assert parse(**in_file) == in_file


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("dataset.root=/data/a,b", "'b'"),
        ("training.launch.devices=[0,1", "closing ]"),
        ("dataset.root='/data", "closing '"),
        ("=3", "'=3'"),
        ("training.epochs=@3", "training.epochs"),
        ("dataset.root=/caf\udce9", r"b'/caf\xe9'"),
    ],
)
def test_invalid_items_are_named(text, named):
    """A single message names the item that is not a key=value pair or has an invalid value."""
    with pytest.raises(ValueError, match=re.escape(named)):
        parse_params([text])


@pytest.mark.parametrize(
    ("written", "root"),
    [
        ("${oc.env:HOME}/imagenet", "/home/ada/imagenet"),
        ("~/imagenet", "/home/ada/imagenet"),
        ("${HOME}/imagenet", None),
    ],
)
def test_globals_may_refer_to_environment_variables(tmp_path, monkeypatch, written, root):
    """`${oc.env:HOME}` is replaced with the variable and `~` with the home folder; an unknown reference is an error."""
    monkeypatch.setenv("HOME", "/home/ada")
    conf = shutil.copytree(REPOSITORY / "conf", tmp_path / "conf", ignore=shutil.ignore_patterns("local"))
    (conf / "odd").mkdir()
    (conf / "odd" / "globals.yml").write_text(f"workspace: data/odd\ndataset_root: {written}\n")
    if root is not None:
        loader = RecipeConfigLoader(str(conf), env="odd", **CONFIG_LOADER_ARGS)
        assert loader["catalog"]["dataset_root"]["filepath"] == root
        return
    with pytest.raises(ParameterError, match=r"dataset_root.*oc\.env"):
        RecipeConfigLoader(str(conf), env="odd", **CONFIG_LOADER_ARGS)
