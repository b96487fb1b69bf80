"""The inputs of evaluation and registration are checked before training."""

from __future__ import annotations

from pathlib import Path

import pytest

from resnet50_pipeline.exceptions import ParameterError
from resnet50_pipeline.parameters import EvaluationParameters, ModelRegistrationParameters
from resnet50_pipeline.preflight import later_stages
from resnet50_pipeline.preflight.later_stages import check_evaluation, check_registration
from resnet50_pipeline.preflight.plan import make_plan


def evaluation(**given: object) -> EvaluationParameters:
    return EvaluationParameters.model_validate({"batch_size_per_rank": 1, **given})


def registration(*, onnx: bool) -> ModelRegistrationParameters:
    return ModelRegistrationParameters(model_name="m", onnx=onnx)


def test_the_default_run_has_no_finding():
    """If the parameters do not name files, there is nothing to check. A model in MLflow is not a file."""
    assert list(check_evaluation(evaluation(compare_with="models:/m@champion"), Path("workspace"))) == []
    assert list(check_registration(registration(onnx=False))) == []


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (None, "real.json"),
        ('{"a":', "real.json"),
        ("[[1], [2, 7]]", "2 images"),
    ],
)
def test_true_labels_are_read_before_the_training(tmp_path: Path, content: str | None, found: str):
    """A missing or invalid file is a blocking finding. Otherwise, the finding shows how many images the file has."""
    path = tmp_path / "real.json"
    if content is not None:
        path.write_text(content)
    (finding,) = check_evaluation(evaluation(true_labels=path), tmp_path / "workspace")
    assert finding.status == ("ok" if found == "2 images" else "blocking")
    assert found in finding.found


def test_every_file_of_the_evaluation_must_exist(tmp_path: Path):
    """The model, the list, the folder and the comparison are checked and reported under their parameter names."""
    (tmp_path / "list.txt").write_text("a.jpg 0\n")
    named = evaluation(
        model=str(tmp_path / "gone.pdparams"),
        image_list=tmp_path / "list.txt",
        image_root=tmp_path / "gone",
        compare_with=str(tmp_path / "gone.parquet"),
        output_dir=tmp_path / "out",
    )
    found = {one.check: one.status for one in check_evaluation(named, tmp_path / "workspace")}
    assert found == {"image_list": "ok", "image_root": "blocking", "compare_with": "blocking", "model": "blocking"}


def test_files_in_the_workspace_are_not_checked(tmp_path: Path):
    """The run may create a list in the workspace, and a model name may omit .pdparams."""
    (tmp_path / "released.pdparams").touch()
    named = evaluation(
        model=str(tmp_path / "released"),
        image_list=tmp_path / "workspace" / "05_model_input" / "train_list.txt",
        output_dir=tmp_path / "out",
    )
    (finding,) = check_evaluation(named, tmp_path / "workspace")
    assert (finding.check, finding.status) == ("model", "ok")


@pytest.mark.parametrize(("packages", "absent"), [(("numpy", "pandas"), None), (("numpy", "no_such"), "no_such")])
def test_onnx_needs_its_packages(monkeypatch, packages: tuple[str, ...], absent: str | None):
    """A missing package is found before training, not during the export that follows."""
    monkeypatch.setattr(later_stages, "ONNX_PACKAGES", packages)
    (finding,) = check_registration(registration(onnx=True))
    assert finding.status == ("blocking" if absent else "ok")
    assert (absent or "numpy and pandas") in finding.found


def test_a_mistyped_parameter_of_a_later_stage_is_rejected(dataset_parameters, training_parameters, tmp_path):
    """`kedro preflight` validates the parameter groups of all stages, as `kedro run` does."""
    parameters = {
        "dataset": dataset_parameters,
        "training": training_parameters(),
        "tracking": {"uri": "sqlite:///mlflow.db", "experiment": "e", "artifact_root": "a"},
        "evaluation": {"batch_size_per_rank": 1, "true_label": "real.json"},
        "model_registration": {"model_name": "m", "onxx": True},
    }
    with pytest.raises(ParameterError, match=r"(?s)true_label.*onxx"):
        make_plan(parameters, {}, tmp_path, makes_sample=False)


@pytest.mark.parametrize(
    ("file", "model", "status"),
    [
        ("w.pdparams", "w", "ok"),
        ("set/weights.safetensors", "set", "ok"),
        ("exported/inference.yml", "exported", "ok"),
        ("folder/notes.txt", "folder", "blocking"),
    ],
)
def test_model_must_be_supported_by_evaluation(tmp_path: Path, file: str, model: str, status: str):
    """A folder that is neither a checkpoint set nor an exported model is a blocking finding before training."""
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).touch()
    named = evaluation(model=str(tmp_path / model), output_dir=tmp_path / "out")
    (finding,) = check_evaluation(named, tmp_path / "workspace")
    assert finding.status == status
