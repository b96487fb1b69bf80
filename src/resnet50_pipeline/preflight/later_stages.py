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


def check_evaluation(evaluation: EvaluationParameters) -> Iterator[Finding]:
    """The files that `evaluation` names, where it names any."""
    if evaluation.true_labels is not None:
        yield _check_true_labels(evaluation.true_labels)
    wanted = {"image_list": evaluation.image_list, "image_root": evaluation.image_root}
    if evaluation.compare_with is not None and not evaluation.compare_with.startswith("models:"):
        wanted["compare_with"] = Path(evaluation.compare_with)
    if evaluation.model is not None and not evaluation.model.startswith("models:"):
        wanted["model"] = Path(evaluation.model)
    for name, path in wanted.items():
        if path is not None:
            yield judge(
                path.exists(),
                "blocking",
                name,
                found=str(path) if path.exists() else f"there is no {path}",
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
