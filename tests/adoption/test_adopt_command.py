"""`kedro adopt` writes one environment, and writes nothing to the data folder."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from click.testing import CliRunner, Result
from dvc.repo import Repo
from image_folders import CLASSES, add_system_files, write_class_folders, write_image
from kedro.framework.project import configure_project
from PIL import Image

from resnet50_pipeline.adoption.environment import lengthen
from resnet50_pipeline.adoption.summary import describe_long_training
from resnet50_pipeline.commands.adopt import adopt
from resnet50_pipeline.imagenet.layout import find_folds
from resnet50_pipeline.imagenet.lists.files import read_list_file
from resnet50_pipeline.imagenet.lists.fixes import ReviewCommands
from resnet50_pipeline.imagenet.scan import scan
from resnet50_pipeline.imagenet.scan.manifest import select_listed
from resnet50_pipeline.parameters import (
    DataPreparationParameters,
    DatasetParameters,
    DataValidationParameters,
    TrainingParameters,
)
from resnet50_pipeline.pipelines.data_preparation.nodes import write_label_map, write_lists
from resnet50_pipeline.pipelines.data_validation.nodes import scan_dataset, validate_manifest
from resnet50_pipeline.recipes import RecipeConfigLoader, read_recipe
from resnet50_pipeline.settings import CONFIG_LOADER_ARGS

REPOSITORY = Path(__file__).parents[2]
configure_project("resnet50_pipeline")


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """A project folder with this project's configuration. It is the current folder."""
    root = tmp_path / "project"
    shutil.copytree(REPOSITORY / "conf", root / "conf", ignore=shutil.ignore_patterns("local"))
    (root / "conf" / "local").mkdir()
    shutil.copy(REPOSITORY / "pyproject.toml", root)
    monkeypatch.chdir(root)
    return root


@pytest.fixture
def flowers(tmp_path) -> Path:
    """Class folders with unusual names, no split, and files left behind by operating systems."""
    root = tmp_path / "Blumen für #1"
    write_class_folders(root, images=10)
    add_system_files(root)
    return root


def run(*arguments: str | Path) -> Result:
    """Run `kedro adopt` in this process without the probe, which would take seconds."""
    return run_with_probe(*arguments, "--no-probe")


def run_with_probe(*arguments: str | Path) -> Result:
    """Run `kedro adopt` in this process."""
    return CliRunner().invoke(adopt, [str(argument) for argument in arguments], catch_exceptions=False)


def configuration(name: str) -> RecipeConfigLoader:
    """Return the configuration of an environment of the project in the current folder."""
    return RecipeConfigLoader("conf", env=name, **CONFIG_LOADER_ARGS)


def state(root: Path) -> dict[str, tuple[int, int]]:
    """Return the size and modification time of everything below a folder."""
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in [root, *root.rglob("*")]}


def test_one_short_file_is_enough(project, flowers):
    """The environment only sets the folder, the lists and the epochs; everything else is derived from its name."""
    before = state(flowers)
    result = run(flowers)
    assert (result.exit_code, result.stdout.splitlines()[-1]) == (0, "kedro run --env blumen-fur-1")
    assert state(flowers) == before
    conf = project / "conf" / "blumen-fur-1"
    assert {path.name for path in conf.iterdir()} == {"parameters.yml", "dvc.yaml"}
    written = yaml.safe_load((conf / "parameters.yml").read_text(encoding="utf-8"))
    assert written == {
        "dataset": {"root": str(flowers), "lists": "data/blumen-fur-1/01_raw/lists"},
        "training": {"epochs": 250},
    }
    loaded = configuration("blumen-fur-1")
    parameters, name = loaded["parameters"], "resnet50-blumen-fur-1"
    assert loaded["catalog"]["dataset_root"]["filepath"] == str(flowers)
    assert loaded["catalog"]["manifest"]["filepath"].startswith("data/blumen-fur-1/")
    assert parameters["dataset"]["class_num"] is None
    assert parameters["model_registration"]["model_name"] == parameters["tracking"]["experiment"] == name
    assert parameters["evaluation"]["compare_with"] == f"models:/{name}@champion"


def validate(project: Path, root: Path, parameters: dict[str, Any]) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Run data_validation and return the manifest and the report."""
    dataset = DatasetParameters.model_validate(parameters["dataset"])
    validation = DataValidationParameters.model_validate(parameters["data_validation"])
    manifest, descriptions = scan_dataset(root, dataset, validation)
    file = project / "manifest.parquet"
    manifest.to_parquet(file)
    report, _ = validate_manifest(
        dataset_root=root,
        manifest=manifest,
        manifest_file=file,
        list_descriptions=descriptions,
        dataset=dataset,
        data_validation=validation,
        findings_review=ReviewCommands("kedro review …", "kedro data-fix …"),
    )
    return manifest, report


def test_the_stages_accept_the_lists(project, flowers):
    """Validation and preparation read the lists, count the classes, and name them after their folders."""
    run(flowers, "--test-fraction", "0.1")
    loaded = configuration("blumen-fur-1")["parameters"]
    dataset = DatasetParameters.model_validate(loaded["dataset"])
    manifest, report = validate(project, flowers, loaded)
    assert select_listed(manifest)["split"].value_counts().to_dict() == {"train": 21, "val": 6, "test": 3}
    assert report["is_valid"]
    assert report["statistics"]["test"]["images"] == 3
    assert report["statistics"]["unlisted_images"] == 0
    classes = write_label_map(flowers, manifest, report, dataset)["classes"]
    assert [one["name"] for one in classes] == sorted(CLASSES)
    preparation = DataPreparationParameters.model_validate(loaded["data_preparation"])
    train, val = write_lists(flowers, manifest, report, dataset, preparation)
    (project / "val.txt").write_bytes(val)
    entries = read_list_file(project / "val.txt", None)
    assert (len(train.splitlines()), len(entries), entries.delimiter) == (21, 6, "\t")
    assert loaded["evaluation"]["split"] == "test"


def test_a_copy_in_test_stops_the_run(project, flowers):
    """A training image that is also in the test list is reported."""
    run(flowers, "--test-fraction", "0.1")
    lists = project / "data" / "blumen-fur-1" / "01_raw" / "lists"
    path, label = (lists / "test_list.txt").read_text(encoding="utf-8").splitlines()[0].split("\t")
    shutil.copy(flowers / path, flowers / "été" / "copy.png")
    with (lists / "train_list.txt").open("a", encoding="utf-8") as file:
        file.write(f"été/copy.png\t{label}\n")
    _, report = validate(project, flowers, configuration("blumen-fur-1")["parameters"])
    (broken,) = [one for one in report["expectations"] if one["name"] == "splits_share_no_image"]
    assert (broken["success"], broken["findings"][0]["path"]) == (False, path)


def test_imagenet_layout_needs_only_the_folder(project, tmp_path):
    """With train/ and val/, no lists are written, and the environment only sets the folder and the epochs."""
    root = tmp_path / "pets"
    write_class_folders(root / "train", ["cat", "dog"], images=3)
    write_class_folders(root / "val", ["cat", "dog"], images=1, start=500)
    assert run(root).exit_code == 0
    assert yaml.safe_load((project / "conf/pets/parameters.yml").read_text()) == {
        "dataset": {"root": str(root)},
        "training": {"epochs": 500},
    }
    assert not (project / "data/pets/01_raw").exists()


def test_dvc_reads_the_stages(project, flowers):
    """DVC accepts the dvc.yaml, whose stages depend on the lists and on each group set by the environment."""
    assert run(flowers, "--name", "b", "--recipe", "cosine-90", "--test-fraction", "0.1").exit_code == 0
    for name in ("conf/recipes", "src/resnet50_pipeline"):
        (project / name).mkdir(parents=True, exist_ok=True)
    repo = Repo.init(str(project), no_scm=True)
    stages = {stage.name: stage for stage in repo.stage.load_all(str(project / "conf/b/dvc.yaml"))}
    assert list(stages) == [
        *("data_version", "data_validation", "data_preparation", "training", "evaluation", "model_registration")
    ]
    assert all("imagenet" not in (stage.cmd or "") for stage in stages.values())
    deps = {name: {dep.def_path for dep in stage.deps} for name, stage in stages.items()}
    assert "data/b/01_raw/lists" in deps["data_validation"] & deps["data_preparation"] & deps["evaluation"]
    assert "conf/recipes/cosine-90.yml" in deps["training"]
    assert all(path.startswith("data/b/") for stage in stages.values() for path in (out.def_path for out in stage.outs))
    document = yaml.safe_load((project / "conf/b/dvc.yaml").read_text(encoding="utf-8"))
    params = {
        name: {f: k for one in s.get("params", []) for f, k in one.items()} for name, s in document["stages"].items()
    }
    assert params["training"]["conf/b/parameters.yml"] == ["dataset", "training"]
    assert params["evaluation"]["conf/b/parameters.yml"] == ["dataset", "evaluation", "training"]


@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_a_recipe_keeps_its_images_per_step(project, flowers, device):
    """On two CPU ranks and on one GPU, the environment trains with the recipe's 256 images per step."""
    assert run(flowers, "--name", "b", "--recipe", "reference", "--device", device).exit_code == 0
    written = yaml.safe_load((project / "conf/b/parameters.yml").read_text())
    assert written["recipe"] == "reference"
    assert written["training"].get("launch", {}).get("device", "cpu") == device
    assert not {"lr", "images_per_step", "epochs"} & written["training"].keys()
    training = TrainingParameters.model_validate(configuration("b")["parameters"]["training"])
    assert training.batch_size_per_rank * training.update_freq * training.parts == 256


def test_suspicious_images_are_reported(project, tmp_path):
    """Broken images, an image in two classes, and classes that are too small are reported by name."""
    root = tmp_path / "odd"
    write_class_folders(root, ["a", "b"], images=30)
    write_image(root / "one" / "only.png", 77_777)
    (root / "a" / "broken.jpg").write_bytes(b"not an image")
    shutil.copy(root / "a" / "Bild 1 ü.png", root / "b" / "copy.png")
    output = run(root).stdout
    for named in ("a/broken.jpg", "several classes", "one", "no val images", "63: "):
        assert named in output, named


@pytest.mark.parametrize(
    ("images", "min_accuracy", "named"), [((10, 10), 0.5, "50.0%"), ((10, 30), 0.7, "75.0%"), ((10, 10), 0.6, None)]
)
def test_a_gate_that_a_constant_answer_passes_is_said(project, tmp_path, images, min_accuracy, named):
    """The note has the accuracy of a model that always predicts the largest class."""
    for name, count in zip("ab", images, strict=True):
        write_class_folders(tmp_path / "pets", [name], count, 1000 * ord(name))
    file = project / "conf/base/parameters_model_registration.yml"
    file.write_text(file.read_text().replace("min_accuracy: 0.5", f"min_accuracy: {min_accuracy}"))
    notes = [line for line in run(tmp_path / "pets").stdout.splitlines() if "min_accuracy" in line]
    assert [f"reaches {named}" in note for note in notes] == ([True] if named else [])


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--name", "imagenet"], "conf/imagenet"),
        (["--name", "sample"], "sample"),
        (["--name", "../x"], "--name"),
        (["--recipe", "cosine90"], "cosine-90"),
        (["--val-fraction", "0.6", "--test-fraction", "0.5"], "--test-fraction"),
        (["--val-fraction", "nan"], "nan"),
        (["--device", "gpu:0"], "gpu:0"),
        (["--pretrained", "gone.pdparams"], "gone.pdparams"),
        (["--pretrained", "models:/resnet50"], "models:/NAME@ALIAS"),
        (["--label-column", "color"], "color"),
        (["--group-by", "x*"], "x*"),
    ],
)
def test_wrong_options_write_nothing(project, flowers, arguments, named):
    """An invalid option causes an error before anything is written."""
    before = state(project)
    result = run(flowers, *arguments)
    assert result.exit_code == 1
    assert named in result.stderr
    assert state(project) == before


def test_the_data_folder_is_never_written_to(project):
    """A workspace inside the data folder is an error."""
    root = write_class_folders(project / "data" / "birds")
    result = run(root)
    assert result.exit_code == 1
    assert "--name" in result.stderr
    assert run(root, "--name", "songbirds").exit_code == 0
    written = yaml.safe_load((project / "conf/songbirds/parameters.yml").read_text())
    assert written["dataset"]["root"] == "data/birds"


def test_the_data_folder_is_never_replaced(project):
    """Images in the folder of the lists are not deleted."""
    root = write_class_folders(project / "data" / "birds" / "01_raw" / "lists" / "images")
    before = state(root)
    assert run(root, "--name", "birds").exit_code == 1
    assert state(root) == before


def test_a_split_without_images_is_an_error(project, flowers):
    """If copies and groups leave no images for val, no environment is written."""
    result = run(flowers, "--group-by", "Bild")
    assert result.exit_code == 1
    assert "for val" in result.stderr
    assert not (project / "conf" / "blumen-fur-1").exists()


@pytest.mark.parametrize("name", ["${x}", "\\${x}", "a${oc.env:HOME}", "a\nb", " # 'é", "x" * 200])
def test_the_configuration_accepts_any_path(project, tmp_path, name):
    """The environment finds the folder even if its name has a special meaning in YAML or OmegaConf."""
    root = write_class_folders(tmp_path / name, ["a", "b"], images=2)
    result = run(root)
    assert result.exit_code == 0
    loaded = configuration(result.stdout.splitlines()[-1].rpartition(" ")[2])
    assert loaded["catalog"]["dataset_root"]["filepath"] == str(root)


def test_a_line_break_in_a_name_adds_no_parameters(project, flowers):
    """A line break in a file name does not end the comment that contains the name."""
    lines = [f"{name}/Bild {n} ü.png,{name}" for name in CLASSES for n in range(10)]
    (flowers / "x\ntraining: {epochs: 1}.csv").write_text("\n".join(["path,label", *lines]), encoding="utf-8")
    assert run(flowers, "--name", "b", "--label-column", "label").exit_code == 0
    assert set(yaml.safe_load((project / "conf/b/parameters.yml").read_text(encoding="utf-8"))) == {
        "dataset",
        "training",
    }


@pytest.mark.parametrize("name", ["tab\t", "line\nbreak", "back\\slash"])
def test_names_that_no_list_can_contain_are_a_single_error(project, flowers, name):
    """The error names the image."""
    write_image(flowers / "été" / f"{name}.png", 9)
    result = run(flowers)
    assert result.exit_code == 1
    assert repr(f"été/{name}.png") in result.stderr
    assert "rename" in result.stderr


def test_an_environment_of_another_process_is_kept(project, flowers, monkeypatch):
    """If another process creates the environment in the meantime, its environment and lists are kept."""
    original = scan.scan_dataset

    def scan_slowly(*arguments: Any, **options: Any) -> pd.DataFrame:
        monkeypatch.setattr(scan, "scan_dataset", original)
        assert run(flowers, "--name", "b", "--seed", "1").exit_code == 0
        return original(*arguments, **options)

    monkeypatch.setattr(scan, "scan_dataset", scan_slowly)
    result = run(flowers, "--name", "b", "--seed", "2")
    assert result.exit_code == 1
    assert "conf/b" in result.stderr
    assert "seed 1" in (project / "conf/b/parameters.yml").read_text(encoding="utf-8")
    assert sorted(path.name for path in (project / "data/b/01_raw").iterdir()) == ["lists"]


def test_a_failed_write_leaves_no_environment(project, flowers):
    """If the lists cannot be written, the error names the path, and conf/ is left unchanged."""
    (project / "data" / "b").mkdir(parents=True)
    (project / "data" / "b" / "01_raw").write_text("mine")
    before = state(project / "conf")
    result = run(flowers, "--name", "b")
    assert result.exit_code == 1
    assert "data/b/01_raw" in result.stderr
    assert set(state(project / "conf")) == set(before)
    assert (project / "data" / "b" / "01_raw").read_text() == "mine"


def test_groups_in_several_splits_are_reported(project, flowers):
    """--group-by cannot change an existing split, so groups in several splits are reported."""
    for number in range(2):
        shutil.copytree(flowers / "été", flowers / ("train", "val")[number] / "a")
        shutil.copytree(flowers / CLASSES[1], flowers / ("train", "val")[number] / "b")
    for name in CLASSES:
        shutil.rmtree(flowers / name)
    result = run(flowers, "--group-by", r"Bild \d")
    assert result.exit_code == 0
    assert "several splits share 10 groups of --group-by" in result.stdout


def test_a_val_split_is_kept(project, tmp_path):
    """--val-fraction is rejected if there is a val split; --test-fraction takes its images from train."""
    root = tmp_path / "pets"
    write_class_folders(root / "train", ["cat", "dog"], images=10)
    write_class_folders(root / "val", ["cat", "dog"], images=2, start=500)
    assert run(root, "--val-fraction", "0.3").exit_code == 1
    assert run(root, "--test-fraction", "0.2").exit_code == 0
    lists = {path.name: len(path.read_text().splitlines()) for path in (project / "data/pets/01_raw/lists").iterdir()}
    assert lists == {"train_list.txt": 16, "val_list.txt": 4, "test_list.txt": 4, "classes.txt": 2}


def test_names_that_are_not_utf8_are_one_error(project, tmp_path):
    """Lists cannot contain such names. The error names the image."""
    root = tmp_path / "latin"
    write_class_folders(root, ["a", "b"], images=2)
    (root / "a" / "Bild 0 ü.png").rename(os.fsdecode(os.fsencode(root / "a") + b"/caf\xe9.png"))
    result = run(root)
    assert result.exit_code == 1
    assert "UTF-8" in result.stderr
    assert not (project / "conf" / "latin").exists()


@pytest.mark.parametrize(
    ("options", "size", "recipe"),
    [
        ((), (90, 70), "from-scratch-small"),
        ((), (60, 50), None),
        (("--pretrained", "weights.pdparams"), (60, 50), "finetune"),
        (("--pretrained", "models:/resnet50-imagenet@champion"), (60, 50), "finetune"),
        (("--pretrained", "weights.pdparams", "--recipe", "reference"), (90, 70), "reference"),
    ],
)
def test_the_recipe_depends_on_the_images_and_weights(project, tmp_path, options, size, recipe):
    """Photographs get a recipe for small datasets, small images the sample's settings, and weights are fine-tuned."""
    for name in ("a", "b"):
        for number in range(4):
            write_image(tmp_path / "pets" / name / f"{number}.jpg", 10 * ord(name) + number, size)
    (project / "weights.pdparams").write_bytes(b"x")
    assert run(tmp_path / "pets", *options).exit_code == 0
    written = yaml.safe_load((project / "conf/pets/parameters.yml").read_text())
    assert written.get("recipe") == recipe
    TrainingParameters.model_validate(configuration("pets")["parameters"]["training"])
    if options:
        given = options[1]
        place = given if given.startswith("models:") else str(project / given)
        assert written["training"]["pretrained_model"] == place
    # Six images fit into one step, and the default recipes take at least 500 steps.
    assert written["training"].get("epochs") == (None if recipe == "reference" else 500)


@pytest.mark.parametrize(
    ("images", "ranks", "expected"),
    [
        (50, 1, {"epochs": 250, "patience": 50}),
        (50, 2, {"epochs": 500, "patience": 100}),
        (300, 1, {}),
        (290, 1, {}),
        (288, 1, {"epochs": 56, "patience": 11}),
        (100_000, 4, {}),
    ],
)
def test_fine_tuning_takes_at_least_500_steps(images, ranks, expected):
    """Epochs and patience grow in proportion, unless the recipe's epochs already have enough steps."""
    recipe = read_recipe(REPOSITORY / "conf/recipes", "finetune")
    assert lengthen(recipe, images, ranks) == expected


@pytest.mark.parametrize(("images", "epochs"), [(160, 50), (1800, 5), (2672, 3)])
def test_small_images_are_trained_for_at_least_500_steps(project, images, epochs):
    """The sample's settings have no patience. Two ranks train on 16 images per step, for at least 3 epochs."""
    sample = configuration("base")["parameters"]["training"]
    assert {**sample, **lengthen(sample, images, 2)} == {**sample, "epochs": epochs}


def read_folds(lists: Path) -> list[dict[str, list[str]]]:
    """Return the paths in the lists of each fold, keyed by file name."""
    return [
        {path.name: [line.split("\t")[0] for line in path.read_text().splitlines()] for path in fold.glob("*_list.txt")}
        for fold in find_folds(lists)
    ]


def test_folds_are_lists_in_the_workspace(project, flowers):
    """Each fold has the lists of a dataset.

    The first fold is the default val split, and no fold contains test images.
    """
    result = run(flowers, "--folds", "3", "--test-fraction", "0.1")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-2:] == [f"kedro {name} --env blumen-fur-1" for name in ("run", "folds")]
    lists = project / "data/blumen-fur-1/01_raw/lists"
    folds = read_folds(lists)
    assert len(folds) == 3
    test = [line.split("\t")[0] for line in (lists / "test_list.txt").read_text().splitlines()]
    assert len(test) == 3
    assert sorted(path for fold in folds for path in fold["val_list.txt"]) == sorted(
        {path for fold in folds for path in fold["train_list.txt"]}
    )
    for fold in folds:
        assert fold["test_list.txt"] == test
        assert not set(fold["val_list.txt"]) & {*fold["train_list.txt"], *test}
        assert (len(fold["val_list.txt"]), len(fold["train_list.txt"])) == (9, 18)
    for name in ("train_list.txt", "val_list.txt", "classes.txt"):
        assert (lists / name).read_bytes() == (lists / "fold-1" / name).read_bytes()
    before = {path: path.read_bytes() for path in lists.rglob("*.txt")}
    shutil.rmtree(project / "conf/blumen-fur-1")
    assert run(flowers, "--folds", "3", "--test-fraction", "0.1").exit_code == 0
    assert {path: path.read_bytes() for path in lists.rglob("*.txt")} == before


def test_folds_divide_train_and_val(project, tmp_path):
    """`kedro run` still uses an existing val split, and the folds divide the images of train and val."""
    root = tmp_path / "pets"
    write_class_folders(root / "train", ["cat", "dog"], images=6)
    write_class_folders(root / "val", ["cat", "dog"], images=3, start=500)
    assert run(root, "--folds", "3").exit_code == 0
    lists = project / "data/pets/01_raw/lists"
    assert all(line.startswith("val/") for line in (lists / "val_list.txt").read_text().splitlines())
    folds = read_folds(lists)
    assert [len(fold["val_list.txt"]) for fold in folds] == [6, 6, 6]
    assert len({path for fold in folds for path in fold["val_list.txt"]}) == 18


def test_folds_that_cannot_be_made_write_nothing(project, flowers):
    """--val-fraction excludes --folds, and there cannot be more folds than images of a class."""
    for arguments, named in ((("--val-fraction", "0.2"), "--val-fraction"), ((), "--folds 10")):
        result = run(flowers, "--folds", "11", *arguments)
        assert result.exit_code == 1
        assert named in result.stderr
    assert not (project / "conf/blumen-fur-1").exists()
    assert not (project / "data/blumen-fur-1/01_raw").exists()


@pytest.fixture
def resized(tmp_path) -> Path:
    """Two classes of 20 images. Each image has a larger JPEG copy next to it."""
    root = tmp_path / "pets"
    for number, name in enumerate(("cat", "dog")):
        for image in range(20):
            write_image(root / name / f"{image:02}.png", 100 * number + image, (9, 7))
            with Image.open(root / name / f"{image:02}.png") as small:
                small.resize((90, 70), Image.Resampling.BICUBIC).save(root / name / f"{image:02}.png")
                small.resize((120, 90), Image.Resampling.BICUBIC).save(root / name / f"{image:02} large.jpg")
    return root


def read_val_names(project: Path) -> list[str]:
    """Return the names of the val images, without suffix."""
    lines = (project / "data/pets/01_raw/lists/val_list.txt").read_text().splitlines()
    return [line.split("\t")[0].rpartition(".")[0] for line in lines]


@pytest.mark.parametrize(("options", "count"), [((), 16), (("--folds", "4"), 20)])
def test_near_identical_images_stay_together(project, resized, options, count):
    """An image and its larger JPEG copy are in the same split or fold, and the command reports the number of pairs."""
    result = run(resized, *options)
    assert "40 pairs" in result.stdout
    assert "(cat/00 large.jpg and cat/00.png, …)" in result.stdout
    names = read_val_names(project)
    assert len(names) == count
    assert {name for name in names if name.endswith(" large")} == {f"{name} large" for name in names if " " not in name}


def test_similar_images_with_different_labels_are_reported(project, resized):
    """A note names a pair, although the search finds such images in all classes."""
    assert "several labels" not in run(resized).stdout
    (resized / "cat/00 large.jpg").rename(resized / "dog/00 copy.jpg")
    result = run(resized, "--name", "mixed")
    expected = "1 group of near-identical images has several labels (cat/00.png and dog/00 copy.jpg, …): usually, one"
    assert expected in result.stdout


@pytest.mark.parametrize(
    ("seconds", "has_weights", "expected"),
    [
        (600.0, False, None),
        (56_100.0, False, "takes hours on CPUs: lower training.epochs in conf/p/parameters.yml, fine-tune weights"),
        (200_000.0, True, "can take days on CPUs: lower training.epochs in conf/p/parameters.yml, use --device gpu"),
        (None, True, "can take days on CPUs"),
    ],
)
def test_long_training_on_cpus_is_noted(seconds, has_weights, expected):
    """From one hour on, a note names the parameter that shortens training."""
    notes = list(describe_long_training(seconds, Path("conf/p/parameters.yml"), has_weights=has_weights))
    assert [expected in note for note in notes] == ([] if expected is None else [True])


def test_few_images_per_class_have_a_consequence(project, flowers):
    """The note on classes with few training images says what may happen, and what to do."""
    stdout = run(flowers).stdout
    assert "may not learn to recognize them; add images, or fine-tune weights with --pretrained" in stdout


def test_the_search_for_near_identical_images_can_be_skipped(project, resized):
    """With --ignore-similar, only copies and groups stay together."""
    result = run(resized, "--ignore-similar")
    assert "near-identical" not in result.stdout
    names = read_val_names(project)
    assert len(names) == 16
    assert {name for name in names if name.endswith(" large")} != {f"{name} large" for name in names if " " not in name}


@pytest.mark.slow
def test_the_table_shows_the_time_per_epoch(project, flowers):
    """The last line of the table shows the estimate for the environment, or why there is none.

    The probe adds no files.
    """
    (line,) = [line for line in run_with_probe(flowers).stdout.splitlines() if line.startswith("  epoch ")]
    expected = r"  epoch     (about|at most) .+, so .+ for 250 epochs, without evaluation \(measured: .+ on cpu\)"
    assert re.fullmatch(expected, line)
    written = {path.relative_to(project).parts[0] for path in project.rglob("*")}
    output = run_with_probe(flowers, "--name", "b", "--device", "tpu").stdout
    (line,) = [line for line in output.splitlines() if line.startswith("  epoch ")]
    assert "this machine has no tpu" in line
    assert written == {"conf", "data", "pyproject.toml"}
