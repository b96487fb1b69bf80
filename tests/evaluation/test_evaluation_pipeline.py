"""The `evaluation` pipeline reads and writes the entries in the `conf/test` catalog."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from kedro.config import AbstractConfigLoader
from kedro.framework.project import configure_project, settings
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline
from kedro.runner import SequentialRunner
from kedro.validation.type_extractor import TypeExtractor
from pydantic import ValidationError

from resnet50_pipeline.exceptions import EvaluationTableError
from resnet50_pipeline.imagenet.fixing import ListedImages
from resnet50_pipeline.imagenet.layout import DatasetLayout
from resnet50_pipeline.paddleclas.config import TrainingPaths, render_training_config
from resnet50_pipeline.parameters import DatasetParameters, EvaluationParameters, TrainingParameters
from resnet50_pipeline.pipelines.evaluation import create_pipeline
from resnet50_pipeline.pipelines.evaluation.nodes import draw_plots
from resnet50_pipeline.reporting.page_data import unpack
from resnet50_pipeline.training_dir import config_path, source_path

configure_project("resnet50_pipeline")

CONF = Path(__file__).resolve().parents[2] / "conf"
CLASSES = ("zero", "one", "two")
# True class, predicted class; four of six are correct.
OUTCOMES = [(0, 0), (0, 1), (1, 1), (1, 1), (2, 2), (2, 0)]


def _config(env: str) -> AbstractConfigLoader:
    return settings.CONFIG_LOADER_CLASS(str(CONF), env=env, **settings.CONFIG_LOADER_ARGS)


def _after_prediction() -> Pipeline:
    """Return the pipeline without the node that starts the ranks."""
    pipeline = create_pipeline()
    return pipeline - pipeline.only_nodes("predict_val_list")


@pytest.fixture
def catalog(tmp_path) -> DataCatalog:
    """The `conf/test` catalog in a temporary folder, with the results of the earlier stages."""
    entries = _config("test")["catalog"]
    for entry in entries.values():
        if "filepath" in entry:
            entry["filepath"] = str(tmp_path / entry["filepath"])
    catalog = DataCatalog.from_config(entries)
    parameters = _config("test")["parameters"]
    values = parameters["evaluation"] | {"compare_with": None}  # there is no MLflow run
    catalog["parameters"] = parameters
    catalog["params:dataset"] = DatasetParameters.model_validate(parameters["dataset"])
    catalog["params:training"] = TrainingParameters.model_validate(parameters["training"])
    catalog["params:evaluation"] = EvaluationParameters.model_validate(values)
    root = tmp_path / "images"
    for row in range(len(OUTCOMES)):
        (root / "val").mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / f"val/{row}.JPEG"), np.full((8, 8, 3), 40 * row, dtype=np.uint8))
    train_list = Path(entries["train_list"]["filepath"])
    train_list.parent.mkdir(parents=True, exist_ok=True)
    train_list.write_text("train/0.JPEG 0\n")
    Path(entries["val_list"]["filepath"]).write_text(
        "".join(f"val/{n}.JPEG {y}\n" for n, (y, _) in enumerate(OUTCOMES))
    )
    Path(entries["shards"]["filepath"]).mkdir()
    split = {"images": 6, "classes": 3, "min_images_per_class": 2, "max_images_per_class": 2, "bytes": 4000}
    run = {"ranks": 2, "device": "cpu", "paddle_version": "3.3.1", "seconds": 3.0, "images_per_second": 2.0}
    for name, data in {
        "dataset_root": root,
        "label_map": {
            "class_num": 3,
            "classes": [{"id": i, "synset": f"n{i:08d}", "name": name} for i, name in enumerate(CLASSES)],
        },
        "manifest": pd.DataFrame(
            {
                "split": "val",
                "path": [f"val/{row}.JPEG" for row in range(len(OUTCOMES))],
                "label": [label for label, _ in OUTCOMES],
                **{"width": 8, "height": 8, "format": ["JPEG"] * 5 + ["PNG"], "status": "ok"},
            }
        ),
        "validation_report": {
            "is_valid": True,
            "data_digest": "sha256:12",
            "statistics": {"train": split, "val": split},
            "expectations": [],
        },
        "training_history": pd.DataFrame(
            [
                {"event": "train_step", "step": 1, "epoch": 1, "loss": 1.1, "top1": 0.3, "images_per_second": 9.0},
                {"event": "eval_end", "step": 2, "epoch": 1, "loss": 0.9, "top1": 0.6, "top5": 1.0},
            ],
            columns=["event", "step", "epoch", "time", "loss", "top1", "top5", "learning_rate", "images_per_second"],
        ),
        "training_summary": {
            **run,
            **{"arch": "ResNet50", "epochs": 1, "steps": 2, "best_epoch": 1, "best_top1": 0.6, "resumed": False},
        },
        "predictions": pd.DataFrame(
            {
                "path": [f"val/{row}.JPEG" for row in range(len(OUTCOMES))],
                "label": [label for label, _ in OUTCOMES],
                "top5_ids": [[predicted, *({0, 1, 2} - {predicted})] for _, predicted in OUTCOMES],
                "top5_probabilities": [[0.8, 0.1, 0.1]] * len(OUTCOMES),
                "loss": np.full(len(OUTCOMES), 0.5, dtype=np.float32),
            }
        ),
        "evaluation_summary": {
            **run,
            **{"checkpoint": "best", "epoch": 1, "step": 2, "images": 6, "images_per_second_without_loading": 3.0},
            **{"is_best_checkpoint": True, "split": "val", "arch": "ResNet50", "list": "val_list.txt"},
            **{"list_digest": "sha256:1157", "weights_digest": "sha256:3e16"},
        },
    }.items():
        catalog.save(name, data)
    training_dir = tmp_path / entries["training_dir"]["filepath"]
    training_dir.mkdir(parents=True)
    config_path(training_dir).write_text("Global:\n  epochs: 1\n")
    return catalog


def test_all_inputs_and_outputs_are_in_the_catalog():
    """All datasets in the pipeline are in the catalog, and each node has a name."""
    pipeline = create_pipeline()
    names = {node.name for node in pipeline.nodes}

    assert names == {
        "predict_val_list",
        "measure_robustness",
        "compute_metrics",
        "find_label_issues",
        "compute_slices",
        "compare_models",
        "draw_plots",
        "write_evaluation_report",
    }
    datasets = {name for name in pipeline.datasets() if not name.startswith("param")}
    assert datasets <= set(_config("base")["catalog"])


def test_parameters_reach_the_nodes_as_models():
    """Kedro finds the parameter types, so it can validate the YAML before the run."""
    types = TypeExtractor({"evaluation": create_pipeline()}).extract_types_from_pipelines()

    assert types == {"dataset": DatasetParameters, "training": TrainingParameters, "evaluation": EvaluationParameters}


@pytest.mark.parametrize("env", ["base", "imagenet", "test"])
def test_every_environment_has_valid_parameters(env):
    """The configuration of each environment is valid and sets all fields."""
    values = _config(env)["parameters"]["evaluation"]

    assert set(values) == set(EvaluationParameters.model_fields)
    EvaluationParameters.model_validate(values)


def test_the_pipeline_writes_metrics_figures_and_report(catalog, tmp_path, monkeypatch):
    """All files of the evaluation contain the right numbers, and no temporary folder remains."""
    staging = tmp_path / "staging"
    staging.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(staging))

    SequentialRunner().run(_after_prediction(), catalog)

    reporting = tmp_path / "data/test/08_reporting"
    metrics = json.loads((reporting / "metrics.json").read_text())
    assert metrics["top1"] == pytest.approx(4 / 6)
    assert metrics["top5"] == 1.0
    assert metrics["images"] == 6
    classes = pd.read_parquet(reporting / "per_class_metrics.parquet")
    assert classes["correct"].tolist() == [1, 2, 1]
    assert classes["confused_with"].tolist() == ["one", "", "zero"]
    assert {path.relative_to(reporting / "plots").as_posix() for path in (reporting / "plots").rglob("*.png")} == {
        f"{folder}{name}.png"
        for folder in ("", "dark/")
        for name in ("class_accuracy", "confusion", "reliability", "training_curves")
    }
    report = (reporting / "evaluation_report.html").read_text(encoding="utf-8")
    assert "66.67%" in report
    assert "epochs: 1" in report
    issues = (tmp_path / "data/test/07_model_output/label_issues.csv").read_text().splitlines()
    assert issues[0].startswith("path,action,label,reason,")
    assert pd.read_parquet(reporting / "slices.parquet")["attribute"].tolist() == ["format"]
    assert pd.read_parquet(reporting / "robustness.parquet").empty  # no corruptions are set
    _, _, packed = report.partition('id="report-data">')
    assert sorted(unpack(packed.partition("<")[0])["images"]["thumbnails"]) == ["0", "1", "2", "3", "4", "5"]
    assert list(staging.iterdir()) == []


def test_users_can_add_attributes_and_out_of_fold_predictions(catalog, tmp_path):
    """The slices include the columns of a CSV file, and the label issues include train images."""
    (tmp_path / "cameras.csv").write_text("path,camera,format\n" + "".join(f"val/{n}.JPEG,old,x\n" for n in range(5)))
    with (tmp_path / "cameras.csv").open("a") as file:
        file.write("val/5.JPEG,new,y\n")
    train = catalog.load("predictions")
    train["path"] = [f"train/{n}.JPEG" for n in range(6)]
    train["loss"] = [-np.log(0.8 if label == predicted else 0.1) for label, predicted in OUTCOMES]
    train.to_parquet(tmp_path / "out_of_fold_predictions.parquet")
    # Image 5 was dropped from the train list after the folds.
    train_list = Path(catalog["train_list"].filepath)
    train_list.parent.mkdir(parents=True, exist_ok=True)
    train_list.write_text("".join(f"train/{n}.JPEG {OUTCOMES[n][0]}\n" for n in range(5)))
    catalog["params:evaluation"] = catalog.load("params:evaluation").model_copy(
        update={
            "slice_attributes": tmp_path / "cameras.csv",
            "out_of_fold_predictions": tmp_path / "out_of_fold_predictions.parquet",
        }
    )
    SequentialRunner().run(create_pipeline().only_nodes("find_label_issues", "compute_slices"), catalog)
    slices = catalog.load("slices")
    assert set(zip(slices["attribute"], slices["slice"], strict=True)) == {
        ("camera", "old"),
        ("format", "JPEG"),
        ("format (CSV)", "x"),
    }
    issues = pd.read_csv(catalog.load("label_issues"))
    first = issues[issues["split"] == "train"].iloc[0]
    assert "train/5.JPEG" not in set(issues["path"])
    assert (first["path"], first["given_class"], first["suggested_class"]) == ("train/1.JPEG", "zero", "one")


def test_label_issues_of_other_folders_are_not_dataset_images(catalog, tmp_path):
    """Images outside the dataset root have absolute paths, which name no image of the dataset in a fix list."""
    table = catalog.load("predictions")
    table["loss"] = [-np.log(0.8 if label == predicted else 0.1) for label, predicted in OUTCOMES]
    catalog.save("predictions", table)
    catalog.save("evaluation_summary", catalog.load("evaluation_summary") | {"split": None})
    root = catalog.load("dataset_root")
    images = ListedImages(DatasetLayout(root, {}), {"val": {"val/1.JPEG": 0}}, (), can_move=True)
    evaluation = catalog.load("params:evaluation")

    def find_first(image_root: Path | None) -> str:
        named = {"image_list": tmp_path / "v2.txt", "image_root": image_root, "output_dir": tmp_path}
        catalog["params:evaluation"] = evaluation.model_copy(update=named)
        SequentialRunner().run(create_pipeline().only_nodes("find_label_issues"), catalog)
        return str(pd.read_csv(catalog.load("label_issues"))["path"].iloc[0])

    assert images.find_image(find_first(None)) == ("val", "val/1.JPEG")
    assert find_first(root) == "val/1.JPEG"
    assert find_first(root.parent) == str(root.parent / "val/1.JPEG")
    with pytest.raises(ValueError, match="not in any list"):
        images.find_image(find_first(root.parent))


def test_images_of_other_folders_have_no_attributes_of_the_dataset(catalog, tmp_path):
    """Images outside the dataset root only have attributes of the CSV file, even if the dataset has the same paths."""
    (tmp_path / "cameras.csv").write_text("path,camera\n" + "".join(f"val/{n}.JPEG,{n > 4}\n" for n in range(6)))
    evaluation = catalog.load("params:evaluation")

    def list_attributes(image_root: Path) -> set[str]:
        named = {"image_list": tmp_path / "v2.txt", "image_root": image_root, "output_dir": tmp_path}
        update = {**named, "slice_attributes": tmp_path / "cameras.csv"}
        catalog["params:evaluation"] = evaluation.model_copy(update=update)
        SequentialRunner().run(create_pipeline().only_nodes("compute_slices"), catalog)
        return set(catalog.load("slices")["attribute"])

    root = catalog.load("dataset_root")
    assert list_attributes(root) == {"camera", "format"}
    assert list_attributes(root.parent) == {"camera"}


def test_heat_maps_need_the_trained_model():
    """Heat maps of another model would be computed but not shown, so the combination is rejected."""
    values = _config("test")["parameters"]["evaluation"] | {"grad_cam_images": 4}
    assert EvaluationParameters.model_validate(values).grad_cam_images == 4
    with pytest.raises(
        ValidationError, match=r"evaluation\.model is a\.safetensors; set evaluation\.grad_cam_images to 0"
    ):
        EvaluationParameters.model_validate(values | {"model": "a.safetensors", "output_dir": "out"})


def test_corruptions_are_a_switch_or_a_list_of_names():
    """The names get the order of the benchmark, and an unknown name is an error with a suggestion."""
    values = _config("test")["parameters"]["evaluation"]
    names = {
        given if isinstance(given, bool) else tuple(given): EvaluationParameters.model_validate(
            values | {"corruptions": given}
        ).corruption_names
        for given in (False, True, ["snow", "shot_noise"])
    }
    assert names[False] == ()
    assert len(names[True]) == 15
    assert names["snow", "shot_noise"] == ("shot_noise", "snow")
    with pytest.raises(ValidationError, match=r"no corruption motion_blurr; did you mean motion_blur\? known: gauss"):
        EvaluationParameters.model_validate(values | {"corruptions": ["motion_blurr"]})
    with pytest.raises(ValidationError, match="contains a name twice"):
        EvaluationParameters.model_validate(values | {"corruptions": ["fog", "fog"]})


@pytest.mark.parametrize("label_smoothing", [None, 0.3])
def test_the_report_lists_only_the_parameters_of_the_training_run(catalog, tmp_path, label_smoothing):
    """If the evaluation has other parameters than the training run, the report does not show them as the run's."""
    training = catalog.load("params:training")
    paths = TrainingPaths(tmp_path, tmp_path / "train_list.txt", tmp_path / "val_list.txt", tmp_path)
    config = config_path(Path(catalog["training_dir"].filepath))
    config.write_text(render_training_config(training, 3, paths).to_yaml())
    if label_smoothing is not None:
        catalog["params:training"] = training.model_copy(update={"label_smoothing": label_smoothing})

    SequentialRunner().run(_after_prediction(), catalog)

    report = (tmp_path / "data/test/08_reporting/evaluation_report.html").read_text(encoding="utf-8")
    _, _, packed = report.partition('id="report-data">')
    known = unpack(packed.partition("<")[0])["run"]["parameters"]
    if label_smoothing is None:
        assert known["training"]["epochs"] == training.epochs
    else:
        assert known == {}
        assert "The parameters are those of" not in report


def test_the_report_names_the_commit_of_the_training_run(catalog, tmp_path):
    """The report and the model card show the commit at the start of training, not the current one."""
    source_path(Path(catalog["training_dir"].filepath)).write_text("4f0c1157-dirty\n")

    SequentialRunner().run(_after_prediction(), catalog)

    for page in ("evaluation_report.html", "model_card.md"):
        text = (tmp_path / "data/test/08_reporting" / page).read_text(encoding="utf-8")
        assert "4f0c1157 (with uncommitted changes)" in text, page


def test_a_failed_node_leaves_no_temporary_folder(catalog, tmp_path, monkeypatch):
    """If a table is invalid, the staged folder is removed."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = set(tmp_path.iterdir())

    with pytest.raises(EvaluationTableError):
        draw_plots(
            predictions=catalog.load("predictions"),
            per_class_metrics=pd.DataFrame(),
            label_map=catalog.load("label_map"),
            training_history=pd.DataFrame(columns=["event"]),
            evaluation=catalog.load("params:evaluation"),
            evaluation_summary=catalog.load("evaluation_summary"),
        )

    assert set(tmp_path.iterdir()) == before


def test_the_plots_folder_is_readable_by_all_users(catalog):
    """The output folder does not have the permissions of a temporary folder."""
    SequentialRunner().run(create_pipeline().only_nodes("compute_metrics", "draw_plots"), catalog)

    assert catalog.load("plots").stat().st_mode & 0o777 == 0o755


def test_registering_the_pipeline_imports_no_heavy_modules():
    """Kedro finds the pipelines without importing matplotlib, scikit-learn, OpenCV or the launcher."""
    heavy = "matplotlib", "sklearn", "cv2", "resnet50_pipeline.paddleclas", "resnet50_pipeline.reporting"
    program = (
        "import sys, resnet50_pipeline.pipelines.evaluation\n"
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )

    finished = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)

    assert finished.stdout.strip() == "[]"
