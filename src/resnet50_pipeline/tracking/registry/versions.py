"""Registers the exported model as a version of a registered model in MLflow."""

from __future__ import annotations

import base64
import contextlib
import importlib.metadata
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import mlflow.pyfunc
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import LoggedModel, LoggedModelOutput, Metric
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
from mlflow.types.schema import AnyType, Array
from mlflow.utils.mlflow_tags import MLFLOW_MODEL_VERSIONS

from resnet50_pipeline.exceptions import RunInterruptedError, TrackingError, TrackingUnreachableError
from resnet50_pipeline.imaging.decode import describe_decoders
from resnet50_pipeline.processes.command_line import repeat_command
from resnet50_pipeline.tracking.delivery.operations import make_metrics
from resnet50_pipeline.tracking.fetch import EVIDENCE
from resnet50_pipeline.tracking.limits import shorten_markdown
from resnet50_pipeline.tracking.pages import artifact_page, run_page
from resnet50_pipeline.tracking.registry.champion import create_model, journal_experiment
from resnet50_pipeline.tracking.runs import TrackedRun
from resnet50_pipeline.tracking.store import Store

LOADER_MODULE = "resnet50_pipeline.serving.pyfunc"
MODEL = "model"
# Length of the column in MLflow's database.
_MAX_DESCRIPTION_LENGTH = 5000
# Packages that serving/ and imaging/ import. If there are alternatives, the installed one becomes the requirement.
_REQUIREMENTS = ("mlflow", "numpy", "pandas", "pillow", "pydantic", "PyYAML", "simplejpeg")
_OPENCV = ("opencv-python", "opencv-python-headless", "opencv-contrib-python")
_PADDLE = ("paddlepaddle", "paddlepaddle-gpu")

# A gray 8 x 8 PNG as the input example, because images from the dataset must not end up in the registry.
EXAMPLE_IMAGE = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAAAAADhZOFXAAAAKklEQVR42mNgEFAwcAhIKIDRDQxQegIDlF7AAKU3MEDpAwxQ+gIDlH4AAB51HAGf"
    "RI9tAAAAAElFTkSuQmCC"
)
_ANY = AnyType()  # type: ignore[no-untyped-call]
# Images arrive as bytes, or as base64 text in JSON requests. With the type `binary`, MLflow would decode the text
# itself and reject the whole request if one row is malformed.
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
    """The files to store with a new version.

    Attributes:
        inference_model: folder with the exported model, inference.yml and label_map.json.
        card: model card in Markdown, for the version's description.
        evidence: files for the run's `evaluation/` artifact folder: predictions, metrics, report, card.
    """

    inference_model: Path
    card: str = ""
    evidence: tuple[Path, ...] = ()


@dataclass(frozen=True)
class RegisteredVersion:
    """A version in the registry.

    Attributes:
        name: name of the registered model.
        version: version number, starting at 1.
        run_id: ID of the MLflow run that created the version.
        model_uri: URI to pass to `mlflow.pyfunc.load_model`.
    """

    name: str
    version: int
    run_id: str
    model_uri: str


def register_model(
    run: TrackedRun, files: ModelFiles, *, name: str, tags: Mapping[str, str], metrics: Mapping[str, float]
) -> RegisteredVersion:
    """Log the exported model as a pyfunc model of `run` and register it as a new version of `name`.

    Aliases are not changed. The model is not loaded, because this process must never import Paddle.

    Args:
        run: run that the model belongs to.
        files: the exported model and the files stored with it.
        name: name of the registered model, which is created if it does not exist.
        tags: tags of the new version and the logged model. A `report` tag with the report's address is added.
        metrics: metrics of the logged model on the run's validation split.

    Raises:
        TrackingError: if MLflow rejects a request or does not respond.
    """
    with explaining_errors(run.store, name):
        client, run_id = run.connect()
        # Do this first, so that a rejected name does not leave a copy of the model behind.
        create_model(client, name, run.store.artifact_location, journal_experiment(run.store.experiment))
        tags = dict(tags) | _keep_evidence(client, run_id, files.evidence)
        logged = _log_model(client, run_id, name, files.inference_model, tags)
        client.log_batch(run_id, metrics=_model_metrics(run, metrics, logged.model_id))
        # Use the location, because MLflow looks up `models:/<id>` in the global store instead of the client's.
        version = client.create_model_version(
            name,
            logged.artifact_location,
            run_id,
            tags,
            description=shorten_markdown(files.card, _MAX_DESCRIPTION_LENGTH),
            model_id=logged.model_id,
        )
        link = json.dumps([{"name": name, "version": version.version}])
        client.set_logged_model_tags(logged.model_id, {MLFLOW_MODEL_VERSIONS: link})
    return RegisteredVersion(name, int(version.version), run_id, f"models:/{name}/{version.version}")


def describe_version(run: TrackedRun, version: RegisteredVersion, description: str) -> None:
    """Replace a version's Markdown description. Sections at the end that do not fit are omitted.

    Raises:
        TrackingError: if MLflow rejects the request or does not respond.
    """
    with explaining_errors(run.store, version.name):
        client, _ = run.connect()
        text = shorten_markdown(description, _MAX_DESCRIPTION_LENGTH)
        client.update_model_version(version.name, str(version.version), text)


def link_run(run: TrackedRun, version: RegisteredVersion, files: Mapping[str, str]) -> dict[str, str]:
    """Return the addresses of a version's run and of files in the run's `evaluation/` folder, keyed by title.

    Args:
        run: run that registered the version.
        version: the version.
        files: file names keyed by title.

    Raises:
        TrackingError: if MLflow rejects the request or does not respond.
    """
    with explaining_errors(run.store, version.name):
        client, run_id = run.connect()
        experiment_id = str(client.get_run(run_id).info.experiment_id)
    pages = {title: artifact_page(experiment_id, run_id, f"{EVIDENCE}/{name}") for title, name in files.items()}
    return {title: page.removeprefix("/") for title, page in {"run": run_page(experiment_id, run_id), **pages}.items()}


@contextlib.contextmanager
def explaining_errors(store: Store, name: str) -> Iterator[None]:
    """Convert MLflow errors to a TrackingError with the next step.

    Raises:
        TrackingUnreachableError: if MLflow does not respond.
        TrackingError: if MLflow rejects a request.
    """
    try:
        yield
    except (TrackingError, RunInterruptedError):
        raise
    except Exception as error:
        raise _kind_of_failure(store)(
            f"MLflow at {store.address} did not register {name!r}: {error}; fix the problem, then rerun this stage "
            "with\n"
            f"  {repeat_command('--pipelines', 'model_registration')}"
        ) from error


def _kind_of_failure(store: Store) -> type[TrackingError]:
    try:
        store.require_answer()
    except OSError:
        return TrackingUnreachableError
    return TrackingError


def _keep_evidence(client: MlflowClient, run_id: str, evidence: Sequence[Path]) -> dict[str, str]:
    """Upload the files that the gate needs, and return a tag with the report's address.

    The evaluation may belong to another run. Copies keep the version comparable even if that run is deleted.
    """
    there = {file.path for file in client.list_artifacts(run_id, EVIDENCE)} if evidence else set()
    for path in evidence:
        if f"{EVIDENCE}/{path.name}" not in there:
            client.log_artifact(run_id, str(path), EVIDENCE)
    reports = [path.name for path in evidence if path.suffix == ".html"]
    return {"report": f"runs:/{run_id}/{EVIDENCE}/{reports[0]}"} if reports else {}


def _model_metrics(run: TrackedRun, metrics: Mapping[str, float], model_id: str) -> list[Metric]:
    """Return the model's metrics with the names and times of the run's own metrics, so that each appears only once."""
    points = [
        make_metrics({name: value}, run.metric_time_ms(name), run.val_data, model_id) for name, value in metrics.items()
    ]
    return [point for one in points for point in one]


def _log_model(
    client: MlflowClient, run_id: str, name: str, inference_model: Path, tags: Mapping[str, str]
) -> LoggedModel:
    """Log the model and return it.

    This function does not call `mlflow.pyfunc.log_model`, which would load the model to test the input example, and
    would leave a run active that MLflow marks as FINISHED when the process ends.
    """
    experiment_id = client.get_run(run_id).info.experiment_id
    logged = client.create_logged_model(experiment_id, name, run_id, dict(tags), model_type="pyfunc")
    with tempfile.TemporaryDirectory() as folder:
        staged = Path(folder) / MODEL
        mlflow.pyfunc.save_model(
            staged,
            loader_module=LOADER_MODULE,
            data_path=str(inference_model),
            code_paths=[str(Path(__file__).parents[2])],
            signature=SIGNATURE,
            input_example=pd.DataFrame({"image": [base64.b64encode(EXAMPLE_IMAGE).decode()]}),
            pip_requirements=list_requirements(),
            metadata={**tags, "decoders": describe_decoders()},
            mlflow_model=Model(
                artifact_path=logged.artifact_location,
                run_id=run_id,
                model_uuid=logged.model_id,
                model_id=logged.model_id,
            ),
        )
        for cache in list(staged.rglob("__pycache__")):
            shutil.rmtree(cache)
        client.log_model_artifacts(logged.model_id, str(staged))
    client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
    return client.finalize_logged_model(logged.model_id, "READY")


def list_requirements() -> list[str]:
    """Return the model's pip requirements, pinned to the installed versions, without importing the packages.

    Raises:
        TrackingError: if a required package is not installed.
    """
    return [_pin(package) for package in _REQUIREMENTS] + [_pin(*_OPENCV), _pin(*_PADDLE)]


def _pin(*alternatives: str) -> str:
    for package in alternatives:
        try:
            return f"{package}=={importlib.metadata.version(package)}"
        except importlib.metadata.PackageNotFoundError:
            continue
    raise TrackingError(
        f"{' or '.join(alternatives)} is not installed, so the model's requirements are unknown; run `make setup`"
    )
