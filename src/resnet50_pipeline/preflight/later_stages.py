"""What the stages behind the training take: files and packages that else are missed when days have passed."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

from resnet50_pipeline.exceptions import EvaluationTableError
from resnet50_pipeline.parameters import EvaluationParameters, ModelRegistrationParameters
from resnet50_pipeline.preflight.findings import Finding, judge

# Those that trainer/onnx.py imports; the ranks' interpreter is this one.
ONNX_PACKAGES = ("paddle2onnx", "onnxruntime")
INSTALL_ONNX = "pip install -e '.[onnx]' in the project's folder, or model_registration.onnx=false"


def check_evaluation(evaluation: EvaluationParameters, workspace: Path) -> Iterator[Finding]:
    """The files that `evaluation` names, where it names any; those in the workspace the run may be about to write."""
    if evaluation.true_labels is not None:
        yield _check_true_labels(evaluation.true_labels)
    named: dict[str, Path | None] = {"image_list": evaluation.image_list, "image_root": evaluation.image_root}
    for name, place in (("compare_with", evaluation.compare_with), ("model", evaluation.model)):
        named[name] = None if place is None or place.startswith("models:") else Path(place)
    for name, path in named.items():
        if path is None or path.absolute().is_relative_to(workspace.absolute()):
            continue
        # As in trainer/pretrained.py: a model's name without suffix means the .pdparams of that name.
        is_there = path.exists() or (name == "model" and path.with_name(f"{path.name}.pdparams").exists())
        yield judge(
            is_there,
            "blocking",
            name,
            found=str(path) if is_there else f"there is no {path}",
            needed=f"what evaluation.{name} names",
            remedy=f"set evaluation.{name}",
        )


def check_registration(registration: ModelRegistrationParameters) -> Iterator[Finding]:
    """The packages of ONNX, where the model is to be written in its format, too."""
    if registration.onnx:
        absent = [package for package in ONNX_PACKAGES if importlib.util.find_spec(package) is None]
        yield judge(
            not absent,
            "blocking",
            "ONNX",
            found=f"no {' and no '.join(absent)}" if absent else " and ".join(ONNX_PACKAGES),
            needed="the extra `onnx`, for model_registration.onnx",
            remedy=INSTALL_ONNX,
        )


def _check_true_labels(path: Path) -> Finding:
    from resnet50_pipeline.reporting.true_labels import read_true_labels

    needed = "lists of class ids, as ReaL's real.json"
    try:
        images = len(read_true_labels(path))
    except EvaluationTableError as error:
        found = str(error).removeprefix("evaluation.true_labels: ")
        return Finding("true labels", "blocking", found, needed, "set evaluation.true_labels")
    return Finding("true labels", "ok", f"{path}: {images} images", needed)
