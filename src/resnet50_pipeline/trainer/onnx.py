"""Converts an exported model to ONNX and runs it. Requires the `onnx` extra."""

from __future__ import annotations

from inspect import signature
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from resnet50_pipeline.exceptions import ExportError

FILE = "inference.onnx"
OPSET = 13


def write_onnx(model_dir: Path) -> Path:
    """Convert `inference.json` (or `.pdmodel`) to `inference.onnx`. Return the path of the new file.

    Raises:
        ExportError: if paddle2onnx is not installed or cannot convert the model.
    """
    try:
        import paddle2onnx
    except ImportError as error:
        raise ExportError(_MISSING.format("paddle2onnx", error)) from error
    program = next(path for path in (model_dir / "inference.json", model_dir / "inference.pdmodel") if path.exists())
    target = model_dir / FILE
    try:
        paddle2onnx.export(
            str(program),
            str(model_dir / "inference.pdiparams"),
            str(target),
            opset_version=OPSET,
            auto_upgrade_opset=True,
            enable_onnx_checker=True,
            # The default, polygraphy, makes paddle2onnx 2.1.0 run pip to install packages from another index.
            **({"optimize_tool": None} if "optimize_tool" in signature(paddle2onnx.export).parameters else {}),
        )
    except Exception as error:  # paddle2onnx does not document its exceptions
        raise ExportError(
            f"{program}: paddle2onnx cannot convert the model: {error}; set model_registration.onnx=false to skip ONNX"
        ) from error
    if not target.is_file():
        raise ExportError(
            f"{target}: paddle2onnx did not write this file; see the log for the reason, or set "
            f"model_registration.onnx=false to skip ONNX"
        )
    return target


def run_onnx(model: Path, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Run ONNX Runtime on images (float32 [N, 3, H, W]) and return the probabilities [N, class_num].

    Raises:
        ExportError: if onnxruntime is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise ExportError(_MISSING.format("onnxruntime", error)) from error
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    (output,) = session.run(None, {session.get_inputs()[0].name: images})
    probabilities: NDArray[np.float32] = output
    return probabilities


_MISSING = "model_registration.onnx needs {} ({}); run `pip install -e '.[onnx]'` in the project folder"
