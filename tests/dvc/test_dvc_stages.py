"""dvc.yaml agrees with the catalog, the parameters and the imports of the Kedro pipelines."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grimp
import pytest
import yaml
from dvc.repo import Repo
from kedro.framework.project import configure_project, pipelines, settings
from kedro.pipeline import Pipeline

from resnet50_pipeline.commands.dvc.data_version import VERSION_FILE
from resnet50_pipeline.pipeline_registry import STAGES
from resnet50_pipeline.recipes import RecipeConfigLoader

PROJECT = Path(__file__).parents[2]
PACKAGE = "resnet50_pipeline"
SOURCE = f"src/{PACKAGE}"
# These modules determine how a run is displayed, supervised and stopped, and how bytes are written to disk. They do not
# affect results, so changing them reruns no stage.
WITHOUT_INFLUENCE = frozenset(
    {
        "exceptions",
        "files",
        "frozen_model",
        "git",
        "logs",
        "processes",
        "progress",
        "tailing",
        "text",
    }
)
# Dependencies that no import statement shows: the trainer is started by its path, and MLflow is given the name of the
# module that loads a model.
STARTED_BY_NAME = {
    "paddleclas.launch.command": "trainer.__main__",
    "tracking.registry.versions": "serving.pyfunc",
}
# The folder in which the `training` stage of dvc.yaml runs.
UNPUBLISHED = "data/dvc/unpublished"
PATCHES = "data/dvc/01_raw/patches"


@dataclass(frozen=True)
class Chain:
    """A dvc.yaml and the Kedro environment of its stages."""

    file: str
    environment: str
    command: str

    def stages(self) -> dict[str, dict[str, Any]]:
        """Return the stages of the file."""
        loaded: dict[str, dict[str, Any]] = yaml.safe_load((PROJECT / self.file).read_text(encoding="utf-8"))["stages"]
        return loaded

    def catalog(self) -> dict[str, str]:
        """Return {dataset: path} of the environment without conf/local."""
        loader = RecipeConfigLoader(
            str(PROJECT / "conf"), env=self.environment, **{**settings.CONFIG_LOADER_ARGS, "default_run_env": "base"}
        )
        # A PathDataset only provides the path for a result that another entry saves.
        return {
            name: entry["filepath"]
            for name, entry in loader["catalog"].items()
            if "filepath" in entry and not entry["type"].endswith(".PathDataset")
        }

    def parameter_files(self, group: str) -> set[str]:
        """Return the files in conf/base and in this environment that set parameters of `group`."""
        files = {path for name in ("base", self.environment) for path in (PROJECT / "conf" / name).glob("*.yml")}
        return {
            path.relative_to(PROJECT).as_posix()
            for path in files
            if path.name.startswith("parameters") and group in (yaml.safe_load(path.read_text(encoding="utf-8")) or {})
        }


CHAINS = (
    Chain("dvc.yaml", "dvc", "kedro run --env dvc --pipelines {stage}"),
    Chain("conf/imagenet/dvc.yaml", "imagenet", "kedro run --env imagenet --pipelines {stage}"),
)
# Only the sample is created by a stage; ImageNet is provided by the user.
CHAIN_STAGES = [
    pytest.param(chain, stage, id=f"{chain.environment}-{stage}")
    for chain in CHAINS
    for stage in STAGES
    if (chain.environment, stage) != ("imagenet", "sample_data")
]


@pytest.fixture(scope="module", autouse=True)
def _project() -> None:
    configure_project(PACKAGE)


def pipeline_of(stage: str) -> Pipeline:
    """Return the Kedro pipeline of a stage."""
    pipeline: Pipeline = pipelines[stage]
    return pipeline


def paths_of(entries: list[str | dict[str, Any]]) -> Iterator[str]:
    """Yield the paths of a stage's deps, outs, metrics or plots, with or without settings."""
    for entry in entries:
        yield entry if isinstance(entry, str) else next(iter(entry))


def outputs_of(stage: dict[str, Any]) -> list[str]:
    """Return the paths of all outs, metrics and plots of a stage."""
    return [path for kind in ("outs", "metrics", "plots") for path in paths_of(stage.get(kind, []))]


def version_file_of(catalog: dict[str, str]) -> str:
    """Return the file that `kedro data-version` writes."""
    return str(Path(catalog["manifest"]).with_name(VERSION_FILE))


@pytest.mark.parametrize("chain", CHAINS, ids=lambda chain: chain.environment)
def test_every_pipeline_is_a_stage(chain: Chain) -> None:
    """The stages in dvc.yaml have the same names and order as the pipelines; only `data_version` is added."""
    made = STAGES if chain.environment == "dvc" else ("data_version", *STAGES[1:])
    assert tuple(chain.stages()) == made
    assert set(pipelines) - {"__default__"} == set(STAGES)


@pytest.mark.parametrize(("chain", "stage"), CHAIN_STAGES)
def test_a_stage_runs_its_own_pipeline(chain: Chain, stage: str) -> None:
    """A stage runs the pipeline of the same name in the project folder."""
    definition = chain.stages()[stage]
    run = chain.command.format(stage=stage)
    if stage != "training":
        assert definition["cmd"] == run
    elif chain.environment == "imagenet":
        assert definition["cmd"] == f"{run} --params training.resume=auto"
    else:
        assert definition["cmd"] == [
            f"{run} --params run_dir={UNPUBLISHED},training.resume=auto",
            f"kedro publish-training {UNPUBLISHED} --env dvc",
        ]
    assert (PROJECT / chain.file).parent.joinpath(definition.get("wdir", ".")).resolve() == PROJECT.resolve()


@pytest.mark.parametrize(("chain", "stage"), CHAIN_STAGES)
def test_outs_are_the_files_that_the_pipeline_writes(chain: Chain, stage: str) -> None:
    """The outs of a stage are exactly the catalog files among the outputs of its pipeline."""
    catalog = chain.catalog()
    written = sorted(catalog[name] for name in pipeline_of(stage).all_outputs() if name in catalog)
    assert sorted(outputs_of(chain.stages()[stage])) == written


@pytest.mark.parametrize(("chain", "stage"), CHAIN_STAGES)
def test_data_deps_are_the_files_that_the_pipeline_reads(chain: Chain, stage: str) -> None:
    """The data deps of a stage are exactly the catalog files that its pipeline reads and does not write itself.

    The ImageNet folder is the exception: 150 GB is too much to hash, so no stage depends on it. `data_validation`
    depends on the file that `kedro data-version` writes instead. The patches of the lists are in `dataset.patches`, not
    in the catalog; the manifest, on which the later stages depend, reflects them.
    """
    catalog = chain.catalog()
    inputs, outputs = (
        {catalog[name] for name in names if name in catalog}
        for names in (pipeline_of(stage).inputs(), pipeline_of(stage).all_outputs())
    )
    read = inputs - outputs
    if chain.environment == "imagenet":
        read.discard(catalog["dataset_root"])
        if stage == "data_validation":
            read.add(version_file_of(catalog))
    elif stage == "data_validation":
        read.add(PATCHES)
    deps = [path for path in paths_of(chain.stages()[stage].get("deps", [])) if not path.startswith(("src/", "conf/"))]
    assert sorted(deps) == sorted(read)


@pytest.mark.parametrize(("chain", "stage"), CHAIN_STAGES)
def test_a_stage_that_uses_a_recipe_depends_on_its_file(chain: Chain, stage: str) -> None:
    """The recipe file is a dep of the stages that use `params:training`, and of no others."""
    chosen = PROJECT / "conf" / chain.environment / "parameters_recipe.yml"
    uses = chosen.exists() and "params:training" in pipeline_of(stage).inputs()
    stages = Repo(PROJECT).stage.load_all(str(PROJECT / chain.file))
    (loaded,) = [found for found in stages if found.name == stage]
    watched = [dep.def_path for dep in loaded.deps if dep.def_path.startswith("conf/recipes/")]
    assert watched == ([f"conf/recipes/{yaml.safe_load(chosen.read_text())['recipe']}.yml"] if uses else [])


@pytest.mark.parametrize(("chain", "stage"), CHAIN_STAGES)
def test_params_are_the_groups_that_the_pipeline_uses(chain: Chain, stage: str) -> None:
    """The params of a stage are exactly the `params:` inputs of its pipeline, in every file of conf/ that sets them."""
    names = {name.removeprefix("params:") for name in pipeline_of(stage).inputs() if name.startswith("params:")}
    expected = {(file, name) for name in names for file in chain.parameter_files(name.partition(".")[0])}
    watched = {
        (file, key) for entry in chain.stages()[stage].get("params", []) for file, keys in entry.items() for key in keys
    }
    assert watched == expected


@pytest.fixture(scope="module")
def imports() -> grimp.ImportGraph:
    """The imports of the package, including those that no import statement shows."""
    graph = grimp.build_graph(PACKAGE, cache_dir=None)
    # Every stage imports all parameters, and the training parameters consist of recipe models. A stage that renders or
    # runs training imports `recipe` itself.
    parameters = f"{PACKAGE}.parameters.training"
    for module in graph.find_modules_directly_imported_by(parameters):
        if module.startswith(f"{PACKAGE}.recipe."):
            graph.remove_import(importer=parameters, imported=module)
    # Likewise, the evaluation parameters contain names of corruptions, and the ranks import `imaging` themselves.
    graph.remove_import(importer=f"{PACKAGE}.parameters.evaluation", imported=f"{PACKAGE}.imaging.corruptions.names")
    for starter, started in STARTED_BY_NAME.items():
        graph.add_import(importer=f"{PACKAGE}.{starter}", imported=f"{PACKAGE}.{started}")
    return graph


@pytest.mark.parametrize(("chain", "stage"), CHAIN_STAGES)
def test_code_deps_are_the_packages_that_the_pipeline_imports(
    chain: Chain, stage: str, imports: grimp.ImportGraph
) -> None:
    """The code deps of a stage are exactly the packages and top-level modules that its pipeline imports."""
    pipeline = f"{PACKAGE}.pipelines.{stage}"
    imported = imports.find_descendants(pipeline) | imports.find_upstream_modules(pipeline, as_package=True)
    deps = {path for path in paths_of(chain.stages()[stage]["deps"]) if path.startswith("src/")}
    assert deps == {dep_of(module) for module in imported} - {None}


def dep_of(module: str) -> str | None:
    """Return the dep that covers a module: its package below resnet50_pipeline, or its own file.

    The result is None for modules that no result depends on, and for the packages `resnet50_pipeline` and `pipelines`,
    whose __init__.py has no code.
    """
    _, *names = module.split(".")
    if not names or names[0] in WITHOUT_INFLUENCE or names == ["pipelines"]:
        return None
    if names[0] == "pipelines":
        return f"{SOURCE}/pipelines/{names[1]}"
    return f"{SOURCE}/{names[0]}" if (PROJECT / SOURCE / names[0]).is_dir() else f"{SOURCE}/{names[0]}.py"


def settings_of_outs(chain: Chain) -> dict[str, dict[str, Any]]:
    """Return {path: settings} for every out in a dvc.yaml."""
    entries = [
        entry
        for stage in chain.stages().values()
        for kind in ("outs", "metrics", "plots")
        for entry in stage.get(kind, [])
    ]
    return {
        path: settings_of_out
        for entry in entries
        for path, settings_of_out in ({entry: {}} if isinstance(entry, str) else entry).items()
    }


def test_dvc_never_writes_to_the_workspace_of_imagenet() -> None:
    """Every ImageNet out is uncached and persistent, so neither a checkout nor the start of a stage deletes it."""
    outs = settings_of_outs(CHAINS[1])
    assert outs
    assert {path: found for path, found in outs.items() if found != {"cache": False, "persist": True}} == {}


def test_only_dvc_stages_write_to_a_cached_out() -> None:
    """No out of dvc.yaml is in a folder that `kedro run` writes to in another environment."""
    assert [path for path in settings_of_outs(CHAINS[0]) if not path.startswith("data/dvc/")] == []
    for environment in ("base", "imagenet", "test"):
        assert not [path for path in Chain("", environment, "").catalog().values() if path.startswith("data/dvc/")]


def test_an_unfinished_training_run_is_outside_every_out() -> None:
    """Checkpoints of an unfinished training run are outside every out of dvc.yaml."""
    outs = settings_of_outs(CHAINS[0])
    assert not [out for out in outs if f"{UNPUBLISHED}/".startswith(f"{out}/") or out.startswith(UNPUBLISHED)]


def test_shards_survive_the_start_of_a_stage() -> None:
    """DVC does not delete the shards before the stage runs, so they can be reused."""
    persistent = {path for path, found in settings_of_outs(CHAINS[0]).items() if found.get("persist")}
    assert persistent == {CHAINS[0].catalog()["shards"]}


def test_the_version_of_imagenet_is_always_computed() -> None:
    """`data_version` runs on every `dvc repro`, because the images are not among its deps."""
    stages, catalog = CHAINS[1].stages(), CHAINS[1].catalog()
    assert {name for name, stage in stages.items() if stage.get("always_changed")} == {"data_version"}
    assert stages["data_version"]["cmd"] == "kedro data-version --env imagenet"
    assert outputs_of(stages["data_version"]) == [version_file_of(catalog)]
