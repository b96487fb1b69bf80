"""What dvc.yaml says of a stage is what Kedro's catalog, parameters and source say: the two cannot drift apart."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grimp
import pytest
import yaml
from dvc.repo import Repo
from kedro.config import OmegaConfigLoader
from kedro.framework.project import configure_project, pipelines, settings
from kedro.pipeline import Pipeline

from resnet50_pipeline.commands.data_version import VERSION_FILE
from resnet50_pipeline.pipeline_registry import STAGES

PROJECT = Path(__file__).parents[2]
PACKAGE = "resnet50_pipeline"
# How a run is shown, watched and ended, which error is raised, how bytes reach the disk: no result depends on it.
WITHOUT_INFLUENCE = frozenset(
    f"{PACKAGE}.{module}"
    for module in (
        "exceptions",
        "files",
        "git",
        "interruption",
        "logs",
        "paddleclas.failure",
        "paddleclas.guard",
        "paddleclas.heartbeats",
        "paddleclas.machines",
        "paddleclas.processes",
        "paddleclas.progress",
        "paddleclas.supervise",
        "progress",
        "trainer.heartbeat",
        "trainer.saver",
        "trainer.stopping",
    )
)
# What no import shows: the trainer is started by its path, with the name of one of its parts, and MLflow is given the
# name of the module that loads a model.
STARTED_BY_NAME = {
    "paddleclas.launch": "trainer.__main__",
    "paddleclas.train": "trainer.training",
    "paddleclas.prediction": "trainer.evaluation",
    "paddleclas.export": "trainer.export",
    "tracking.registry": "serving.pyfunc",
}
# Their ranks open the images that the lists name. Lists of the same names may name other images, and the manifest
# has the digest of every one: it stands for them.
READING_IMAGES = frozenset({"training", "evaluation"})


@dataclass(frozen=True)
class Chain:
    """One dvc.yaml and the Kedro environment that its stages run in."""

    file: str
    environment: str
    command: str

    def stages(self) -> dict[str, dict[str, Any]]:
        """Return the stages of the file."""
        loaded: dict[str, dict[str, Any]] = yaml.safe_load((PROJECT / self.file).read_text(encoding="utf-8"))["stages"]
        return loaded

    def catalog(self) -> dict[str, str]:
        """Return {dataset: path} of the environment, with nothing of conf/local."""
        loader = OmegaConfigLoader(
            str(PROJECT / "conf"), env=self.environment, **{**settings.CONFIG_LOADER_ARGS, "default_run_env": "base"}
        )
        return {name: entry["filepath"] for name, entry in loader["catalog"].items() if "filepath" in entry}

    def parameter_files(self, group: str) -> set[str]:
        """Return the files of base and of this environment that set the parameter `group`."""
        files = {path for name in ("base", self.environment) for path in (PROJECT / "conf" / name).glob("*.yml")}
        return {
            path.relative_to(PROJECT).as_posix()
            for path in files
            if path.name.startswith("parameters") and group in (yaml.safe_load(path.read_text(encoding="utf-8")) or {})
        }


CHAINS = (
    Chain("dvc.yaml", "base", "kedro run --pipelines {stage}"),
    Chain("conf/imagenet/dvc.yaml", "imagenet", "kedro run --env imagenet --pipelines {stage}"),
)
# Every chain makes or is given its data set; only the sample is made.
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
    """Yield the paths of a stage's deps, outs, metrics or plots, whether they carry settings or not."""
    for entry in entries:
        yield entry if isinstance(entry, str) else next(iter(entry))


def outputs_of(stage: dict[str, Any]) -> list[str]:
    """Return every path that a stage says it writes."""
    return [path for kind in ("outs", "metrics", "plots") for path in paths_of(stage.get(kind, []))]


def version_file_of(catalog: dict[str, str]) -> str:
    """Return the file of `kedro data-version`."""
    return str(Path(catalog["manifest"]).with_name(VERSION_FILE))


@pytest.mark.parametrize("chain", CHAINS, ids=lambda chain: chain.environment)
def test_every_pipeline_is_a_stage(chain: Chain) -> None:
    """dvc.yaml has the stages of the chain, by the same names and in the same order, and no other but data_version."""
    made = STAGES if chain.environment == "base" else ("data_version", *STAGES[1:])
    assert tuple(chain.stages()) == made
    assert set(pipelines) - {"__default__"} == set(STAGES)


@pytest.mark.parametrize(("chain", "stage"), CHAIN_STAGES)
def test_a_stage_runs_its_own_pipeline(chain: Chain, stage: str) -> None:
    """The command of a stage is the pipeline of the same name, run in the project folder."""
    definition = chain.stages()[stage]
    # Interrupted, it goes on from its last checkpoint set.
    resuming = " --params training.resume=auto" if stage == "training" else ""
    assert definition["cmd"] == chain.command.format(stage=stage) + resuming
    assert (PROJECT / chain.file).parent.joinpath(definition.get("wdir", ".")).resolve() == PROJECT.resolve()


@pytest.mark.parametrize(("chain", "stage"), CHAIN_STAGES)
def test_outs_are_the_files_that_the_pipeline_writes(chain: Chain, stage: str) -> None:
    """Every catalog file among a pipeline's outputs is an out of its stage, and nothing else is."""
    catalog = chain.catalog()
    written = sorted(catalog[name] for name in pipeline_of(stage).all_outputs() if name in catalog)
    assert sorted(outputs_of(chain.stages()[stage])) == written


@pytest.mark.parametrize(("chain", "stage"), CHAIN_STAGES)
def test_data_deps_are_the_files_that_the_pipeline_reads(chain: Chain, stage: str) -> None:
    """Every catalog file among a pipeline's free inputs is a dep of its stage, and no other data but the manifest is.

    The ImageNet folder is the exception: 150 GB are not hashed, so the stages that read it do not name it, and the file
    that names the version of its images stands for it where they are first read.
    """
    catalog = chain.catalog()
    read = {catalog[name] for name in pipeline_of(stage).inputs() if name in catalog}
    if chain.environment == "imagenet":
        read.discard(catalog["dataset_root"])
        if stage == "data_validation":
            read.add(version_file_of(catalog))
    if stage in READING_IMAGES:
        read.add(catalog["manifest"])
    deps = [path for path in paths_of(chain.stages()[stage].get("deps", [])) if not path.startswith(("src/", "conf/"))]
    assert sorted(deps) == sorted(read)


@pytest.mark.parametrize(("chain", "stage"), CHAIN_STAGES)
def test_a_stage_that_uses_a_recipe_watches_its_file(chain: Chain, stage: str) -> None:
    """Another recipe, or another value in it, makes every stage run again that looks at `training`, and no other."""
    chosen = PROJECT / "conf" / chain.environment / "parameters_recipe.yml"
    uses = chosen.exists() and "params:training" in pipeline_of(stage).inputs()
    stages = Repo(PROJECT).stage.load_all(str(PROJECT / chain.file))
    (loaded,) = [found for found in stages if found.name == stage]
    watched = [dep.def_path for dep in loaded.deps if dep.def_path.startswith("conf/recipes/")]
    assert watched == ([f"conf/recipes/{yaml.safe_load(chosen.read_text())['recipe']}.yml"] if uses else [])


@pytest.mark.parametrize(("chain", "stage"), CHAIN_STAGES)
def test_params_are_the_groups_that_the_pipeline_uses(chain: Chain, stage: str) -> None:
    """Every `params:` input of a pipeline is watched in every file of conf/ that sets it, and no other is."""
    names = {name.removeprefix("params:") for name in pipeline_of(stage).inputs() if name.startswith("params:")}
    expected = {(file, name) for name in names for file in chain.parameter_files(name.partition(".")[0])}
    watched = {
        (file, key) for entry in chain.stages()[stage].get("params", []) for file, keys in entry.items() for key in keys
    }
    assert watched == expected


@pytest.fixture(scope="module")
def imports() -> grimp.ImportGraph:
    """Who runs whom in the package: a part of the trainer counts for those who start that part only."""
    graph = grimp.build_graph(PACKAGE, cache_dir=None)
    for part in graph.find_modules_directly_imported_by(f"{PACKAGE}.trainer.__main__"):
        if part.startswith(f"{PACKAGE}.trainer."):
            graph.remove_import(importer=f"{PACKAGE}.trainer.__main__", imported=part)
    # Every stage imports all parameters, and those of training are checked by the operators that they name; a stage
    # that does more with them, for it renders or runs a training, imports imaging itself.
    input_pipeline = f"{PACKAGE}.parameters.input_pipeline"
    for module in graph.find_modules_directly_imported_by(input_pipeline):
        if module.startswith(f"{PACKAGE}.imaging."):
            graph.remove_import(importer=input_pipeline, imported=module)
    for starter, started in STARTED_BY_NAME.items():
        graph.add_import(importer=f"{PACKAGE}.{starter}", imported=f"{PACKAGE}.{started}")
    return graph


@pytest.mark.parametrize(("chain", "stage"), CHAIN_STAGES)
def test_code_deps_are_the_modules_that_the_pipeline_imports(
    chain: Chain, stage: str, imports: grimp.ImportGraph
) -> None:
    """A change of any module that a stage runs makes it run again, and a change of any other does not."""
    package = f"{PACKAGE}.pipelines.{stage}"
    modules = imports.find_descendants(package) | imports.find_upstream_modules(package, as_package=True)
    used = {source_of(module) for module in modules - WITHOUT_INFLUENCE} - {None}
    deps = [path for path in paths_of(chain.stages()[stage].get("deps", [])) if path.startswith("src/")]
    unwatched = {path for path in used if not any(path == dep or path.startswith(f"{dep}/") for dep in deps)}
    unused = {dep for dep in deps if not any(path == dep or path.startswith(f"{dep}/") for path in used)}
    assert not unwatched, f"{chain.file}: {stage} imports these and does not list them in deps"
    assert not unused, f"{chain.file}: {stage} lists these in deps and does not import them"


def source_of(module: str) -> str | None:
    """Return the module's file, relative to the project; None for a package, whose __init__ says nothing."""
    path = PROJECT / "src" / Path(*module.split(".")).with_suffix(".py")
    return path.relative_to(PROJECT).as_posix() if path.is_file() else None


@pytest.mark.parametrize("chain", CHAINS, ids=lambda chain: chain.environment)
def test_checkpoints_outlive_the_start_of_a_stage(chain: Chain) -> None:
    """DVC deletes outs before a stage runs; it must leave checkpoints, shards, and what is only written when new."""
    catalog = chain.catalog()
    persistent = {
        path
        for stage in chain.stages().values()
        for kind in ("outs", "metrics", "plots")
        for entry in stage.get(kind, [])
        if isinstance(entry, dict)
        for path, settings_of_out in entry.items()
        if settings_of_out.get("persist")
    }
    assert persistent == {
        catalog["training_dir"],
        catalog["shards"],
        *([version_file_of(catalog)] if "data_version" in chain.stages() else []),
    }


def test_the_version_of_imagenet_is_always_asked_for() -> None:
    """Without the images among its deps DVC cannot know that they changed: it asks each time and watches the answer."""
    stages, catalog = CHAINS[1].stages(), CHAINS[1].catalog()
    assert {name for name, stage in stages.items() if stage.get("always_changed")} == {"data_version"}
    assert stages["data_version"]["cmd"] == "kedro data-version --env imagenet"
    assert outputs_of(stages["data_version"]) == [version_file_of(catalog)]
