"""What evaluation and registration take is looked for before the training, and not behind it."""

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


def test_nothing_named_is_nothing_asked():
    """The usual run has no further line in the table; a champion is for MLflow to know."""
    assert list(check_evaluation(evaluation(compare_with="models:/m@champion"), Path("workspace"))) == []
    assert list(check_registration(registration(onnx=False))) == []


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read: No such file"),
        ('{"a":', "neither a list of lists"),
        ("[[1], [2, 7]]", "2 images"),
    ],
)
def test_true_labels_are_read_before_the_training(tmp_path: Path, content: str | None, words: str):
    """A file that is not there, or is no JSON, blocks; the number of its images is shown otherwise."""
    path = tmp_path / "real.json"
    if content is not None:
        path.write_text(content)
    (finding,) = check_evaluation(evaluation(true_labels=path), tmp_path / "workspace")
    assert finding.status == ("ok" if words == "2 images" else "blocking")
    assert words in finding.found


def test_every_file_that_the_evaluation_names_is_looked_for(tmp_path: Path):
    """Model, list, folder and rival, by the parameter's name; those that are there are fine."""
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


def test_what_the_run_itself_may_write_is_not_asked_for(tmp_path: Path):
    """A list of the workspace is there when its turn comes; a model's name may lack its .pdparams."""
    (tmp_path / "released.pdparams").touch()
    named = evaluation(
        model=str(tmp_path / "released"),
        image_list=tmp_path / "workspace" / "05_model_input" / "train_list.txt",
        output_dir=tmp_path / "out",
    )
    (finding,) = check_evaluation(named, tmp_path / "workspace")
    assert (finding.check, finding.status) == ("model", "ok")


@pytest.mark.parametrize(("packages", "absent"), [(("numpy", "pandas"), None), (("numpy", "no_such"), "no no_such")])
def test_onnx_without_its_packages_blocks(monkeypatch, packages: tuple[str, ...], absent: str | None):
    """What the export would find out behind a training of days."""
    monkeypatch.setattr(later_stages, "ONNX_PACKAGES", packages)
    (finding,) = check_registration(registration(onnx=True))
    assert finding.status == ("blocking" if absent else "ok")
    assert finding.found == (absent or "numpy and pandas")


def test_a_mistyped_name_of_a_later_stage_is_refused(dataset_parameters, training_parameters, tmp_path):
    """`kedro preflight` reads the groups of all stages that a run has, as `kedro run` does."""
    parameters = {
        "dataset": dataset_parameters,
        "training": training_parameters(),
        "tracking": {"uri": "sqlite:///mlflow.db", "experiment": "e", "artifact_root": "a"},
        "evaluation": {"batch_size_per_rank": 1, "true_label": "real.json"},
        "model_registration": {"model_name": "m", "onxx": True},
    }
    with pytest.raises(ParameterError, match=r"(?s)true_label.*onxx"):
        make_plan(parameters, {}, tmp_path, makes_sample=False)
