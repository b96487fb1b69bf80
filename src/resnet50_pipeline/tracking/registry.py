"""The exported model as a version of an MLflow registered model."""

from __future__ import annotations

import base64
import contextlib
import importlib.metadata
import json
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import mlflow.pyfunc
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import LoggedModel, LoggedModelOutput
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
from mlflow.types.schema import AnyType, Array
from mlflow.utils.mlflow_tags import MLFLOW_MODEL_VERSIONS

from resnet50_pipeline.exceptions import RunInterruptedError, TrackingError
from resnet50_pipeline.tracking.fetch import EVIDENCE
from resnet50_pipeline.tracking.operations import cut, make_metrics
from resnet50_pipeline.tracking.runs import TrackedRun
from resnet50_pipeline.tracking.store import Store

LOADER_MODULE = "resnet50_pipeline.serving.pyfunc"
MODEL = "model"
# Of the column in MLflow's database.
_MAX_DESCRIPTION_LENGTH = 5000
# What serving/ and imaging/ import, with the versions that made and checked this model; of Paddle either build.
_REQUIREMENTS = ("mlflow", "numpy", "pandas", "pillow", "pydantic", "PyYAML")
_OPENCV = ("opencv-python", "opencv-python-headless", "opencv-contrib-python")
_PADDLE = ("paddlepaddle", "paddlepaddle-gpu")

# A grey PNG of 8 x 8 pixels: the example in the model's card. A photo of the data set has no place in the registry.
EXAMPLE_IMAGE = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAAAAADhZOFXAAAAKklEQVR42mNgEFAwcAhIKIDRDQxQegIDlF7AAKU3MEDpAwxQ+gIDlH4AAB51HAGf"
    "RI9tAAAAAElFTkSuQmCC"
)
_ANY = AnyType()  # type: ignore[no-untyped-call]
# An image is bytes, or base64 text where it came as JSON. MLflow's type `binary` would decode that text itself, and
# answer one malformed row by refusing the whole request.
SIGNATURE = ModelSignature(
    inputs=Schema([ColSpec(_ANY, "image", required=False), ColSpec(DataType.string, "path", required=False)]),
    outputs=Schema(
        [
            ColSpec(Array(DataType.long), "top_ids"),
            ColSpec(Array(DataType.string), "top_names"),
            ColSpec(Array(DataType.string), "top_synsets"),
            ColSpec(Array(DataType.double), "top_probabilities"),
            ColSpec(DataType.long, "status"),
            ColSpec(DataType.string, "error"),
        ]
    ),
    params=ParamSchema([ParamSpec("top_k", DataType.long, 5)]),
)


@dataclass(frozen=True)
class ModelFiles:
    """What a version is made of, and what its run keeps beside it.

    Attributes:
        inference_model: folder with the exported model, inference.yml and label_map.json.
        card: Markdown, becomes the version's description.
        evidence: files that the run keeps below `evaluation/`: predictions, metrics, report, card.
    """

    inference_model: Path
    card: str = ""
    evidence: tuple[Path, ...] = ()


@dataclass(frozen=True)
class RegisteredVersion:
    """A version in the registry.

    Attributes:
        name: of the registered model.
        version: counts from 1.
        run_id: MLflow run that it was made in.
        model_uri: for `mlflow.pyfunc.load_model`.
    """

    name: str
    version: int
    run_id: str
    model_uri: str


def register_model(
    run: TrackedRun, files: ModelFiles, *, name: str, tags: Mapping[str, str], metrics: Mapping[str, float]
) -> RegisteredVersion:
    """Log the exported model as a pyfunc model of `run`, and make it a version of `name`; no alias moves.

    Nothing of the model is loaded: this process never imports Paddle.

    Args:
        run: the run that the model belongs to.
        files: the exported model, and what is kept with it.
        name: of the registered model, created if it is not there.
        tags: of the new version, and of the logged model; `report` is added, the address of the report.
        metrics: of the logged model, on the run's val data.

    Raises:
        TrackingError: MLflow refused, or did not answer.
    """
    with explaining_refusals(run.store, name):
        client, run_id = run.connect()
        tags = dict(tags) | _keep_evidence(client, run_id, files.evidence)
        logged = _log_model(client, run_id, files.inference_model, tags)
        now_ms = round(time.time() * 1000)
        client.log_batch(run_id, metrics=make_metrics(metrics, now_ms, run.val_data, logged.model_id))
        _create_registered_model(client, name)
        # By its location: MLflow looks `models:/<id>` up in the process's global store, and not in this client's.
        version = client.create_model_version(
            name,
            logged.artifact_location,
            run_id,
            tags,
            description=cut(files.card, _MAX_DESCRIPTION_LENGTH),
            model_id=logged.model_id,
        )
        link = json.dumps([{"name": name, "version": version.version}])
        client.set_logged_model_tags(logged.model_id, {MLFLOW_MODEL_VERSIONS: link})
    return RegisteredVersion(name, int(version.version), run_id, f"models:/{name}/{version.version}")


@contextlib.contextmanager
def explaining_refusals(store: Store, name: str) -> Iterator[None]:
    """Turn what MLflow raises into one message that says how to go on.

    Raises:
        TrackingError: MLflow refused, or did not answer.
    """
    try:
        yield
    except (TrackingError, RunInterruptedError):
        raise
    except Exception as error:
        raise TrackingError(
            f"MLflow at {store.address} did not register {name!r}: {error}; once it does, "
            "`kedro run --pipelines model_registration` repeats this stage alone"
        ) from error


def _keep_evidence(client: MlflowClient, run_id: str, evidence: Sequence[Path]) -> dict[str, str]:
    """Upload what the version was judged by, and return the tag that leads to the report.

    The evaluation may have been another run than this one: with its files beside it, a version can be judged, and
    compared with the next one, whatever becomes of other runs.
    """
    there = {file.path for file in client.list_artifacts(run_id, EVIDENCE)} if evidence else set()
    for path in evidence:
        if f"{EVIDENCE}/{path.name}" not in there:
            client.log_artifact(run_id, str(path), EVIDENCE)
    reports = [path.name for path in evidence if path.suffix == ".html"]
    return {"report": f"runs:/{run_id}/{EVIDENCE}/{reports[0]}"} if reports else {}


def _log_model(client: MlflowClient, run_id: str, inference_model: Path, tags: Mapping[str, str]) -> LoggedModel:
    """Return the new logged model of the run.

    Step by step, for `mlflow.pyfunc.log_model` would load the model to try its example, and leave a run of its own
    active, which MLflow marks as FINISHED when the process ends.
    """
    experiment_id = client.get_run(run_id).info.experiment_id
    logged = client.create_logged_model(experiment_id, MODEL, run_id, dict(tags), model_type="pyfunc")
    with tempfile.TemporaryDirectory() as folder:
        staged = Path(folder) / MODEL
        mlflow.pyfunc.save_model(
            staged,
            loader_module=LOADER_MODULE,
            data_path=str(inference_model),
            code_paths=[str(Path(__file__).parents[1])],
            signature=SIGNATURE,
            input_example=pd.DataFrame({"image": [base64.b64encode(EXAMPLE_IMAGE).decode()]}),
            pip_requirements=list_requirements(),
            metadata=dict(tags),
            mlflow_model=Model(
                artifact_path=logged.artifact_location,
                run_id=run_id,
                model_uuid=logged.model_id,
                model_id=logged.model_id,
            ),
        )
        client.log_model_artifacts(logged.model_id, str(staged))
    client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
    return client.finalize_logged_model(logged.model_id, "READY")


def list_requirements() -> list[str]:
    """Return the pinned packages that the model needs, from what is installed, without importing any of them.

    Raises:
        TrackingError: one of them is not installed.
    """
    return [_pin(package) for package in _REQUIREMENTS] + [_pin(*_OPENCV), _pin(*_PADDLE)]


def _pin(*alternatives: str) -> str:
    for package in alternatives:
        try:
            return f"{package}=={importlib.metadata.version(package)}"
        except importlib.metadata.PackageNotFoundError:
            continue
    raise TrackingError(f"{' or '.join(alternatives)} is not installed, so the model's requirements cannot be stated")


def _create_registered_model(client: MlflowClient, name: str) -> None:
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
