"""The exported model in the format of ONNX, and what ONNX Runtime makes of it (both packages: extra `onnx`)."""

from __future__ import annotations

from inspect import signature
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from resnet50_pipeline.exceptions import ExportError

FILE = "inference.onnx"
OPSET = 13


def write_onnx(model_dir: Path) -> Path:
    """Write `inference.onnx` from `inference.json` or `.pdmodel`, and return its path.

    Raises:
        ExportError: paddle2onnx is not installed, or cannot convert this model.
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
            # Its default, polygraphy, has pip fetch packages of its own from an index of its own (2.1.0).
            **({"optimize_tool": None} if "optimize_tool" in signature(paddle2onnx.export).parameters else {}),
        )
    except Exception as error:  # its own C++ and whatever its Python around it raises
        raise ExportError(f"paddle2onnx cannot convert it: {error}; set model_registration.onnx=false") from error
    if not target.is_file():
        raise ExportError("paddle2onnx wrote nothing; its log says why. Set model_registration.onnx to false to go on")
    return target


def run_onnx(model: Path, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return what ONNX Runtime makes of images float32 [N, 3, H, W]: probabilities [N, class_num].

    Raises:
        ExportError: onnxruntime is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise ExportError(_MISSING.format("onnxruntime", error)) from error
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    (output,) = session.run(None, {session.get_inputs()[0].name: images})
    probabilities: NDArray[np.float32] = output
    return probabilities


_MISSING = "model_registration.onnx needs {} ({}); in the project's folder: pip install -e '.[onnx]'"
