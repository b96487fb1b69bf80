"""Checks the files and packages that the stages after training need, because training may take days."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

from resnet50_pipeline.checkpoint_set import find_weights
from resnet50_pipeline.exceptions import EvaluationTableError
from resnet50_pipeline.parameters import EvaluationParameters, ModelRegistrationParameters, is_registered_reference
from resnet50_pipeline.preflight.findings import Finding, judge
from resnet50_pipeline.text import pluralize

# Packages that trainer/onnx.py imports. The ranks use the same interpreter as this process.
ONNX_PACKAGES = ("paddle2onnx", "onnxruntime")
INSTALL_ONNX = "pip install -e '.[onnx]' in the project folder, or set model_registration.onnx=false"


def check_evaluation(evaluation: EvaluationParameters, *result_folders: Path) -> Iterator[Finding]:
    """Check that the files named in `evaluation` exist, except files in the folders to which the run writes."""
    if evaluation.true_labels is not None:
        yield _check_true_labels(evaluation.true_labels)
    named: dict[str, Path | None] = {"image_list": evaluation.image_list, "image_root": evaluation.image_root}
    for name, reference in (("compare_with", evaluation.compare_with), ("model", evaluation.model)):
        named[name] = None if reference is None or is_registered_reference(reference) else Path(reference)
    for name, path in named.items():
        if path is None or any(path.absolute().is_relative_to(folder.absolute()) for folder in result_folders):
            continue
        is_good = path.exists() if name != "model" else _is_model(path)
        yield judge(
            is_good,
            "blocking",
            name,
            found=str(path) if is_good else f"{path} is not a model" if path.exists() else f"{path} does not exist",
            needed=f"a valid path in evaluation.{name}",
            remedy=f"correct evaluation.{name}",
        )


def check_registration(registration: ModelRegistrationParameters) -> Iterator[Finding]:
    """Check that the ONNX packages are installed if the model is exported to ONNX."""
    if registration.onnx:
        missing = [package for package in ONNX_PACKAGES if importlib.util.find_spec(package) is None]
        yield judge(
            not missing,
            "blocking",
            "ONNX",
            found=f"{' and '.join(missing)} not installed" if missing else " and ".join(ONNX_PACKAGES),
            needed="the `onnx` extra, for model_registration.onnx",
            remedy=INSTALL_ONNX,
        )


def _is_model(path: Path) -> bool:
    # Import late, because this module loads OpenCV, which has a separate check.
    from resnet50_pipeline.paddleclas.evaluated_model import EXPORTED

    return (path / EXPORTED).is_file() or find_weights(path) is not None


def _check_true_labels(path: Path) -> Finding:
    from resnet50_pipeline.reporting.true_labels import read_true_labels

    needed = "lists of class ids, as in ReaL's real.json"
    try:
        images = len(read_true_labels(path))
    except EvaluationTableError as error:
        found = str(error).removeprefix("evaluation.true_labels: ")
        return Finding("true labels", "blocking", found, needed, "correct evaluation.true_labels")
    return Finding("true labels", "ok", f"{path}: {pluralize(images, 'image')}", needed)
