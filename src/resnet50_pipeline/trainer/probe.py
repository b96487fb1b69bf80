"""Prints the properties of Paddle and its devices as a line of JSON: `python trainer/probe.py --device gpu --use 0,1`.

Preflight runs this program with the interpreter and environment variables of the ranks, and reads the last line.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import zlib  # noqa: F401 - must precede paddle 2.6.2, which exports zlib's symbols and crashes later users of zlib
from collections.abc import Sequence
from typing import Any


def main(arguments: list[str] | None = None) -> int:
    """Print the result and return 0. The result includes any problems, so they do not change the exit code."""
    parser = argparse.ArgumentParser(prog="probe.py", description=__doc__)
    parser.add_argument("--device", required=True, help="cpu, gpu, or the name of a Paddle custom device")
    parser.add_argument("--use", default="0", help="numbers of the devices to test, such as 0,1")
    parser.add_argument("--paddleclas", help="PaddleClas checkout whose engine will train")
    options = parser.parse_args(arguments)
    found = probe_environment(options.device, [int(number) for number in options.use.split(",")], options.paddleclas)
    print(json.dumps(found), flush=True)
    return 0


def probe_environment(device: str, use: Sequence[int], paddleclas: str | None = None) -> dict[str, Any]:
    """Run a small computation on each device in `use`. Return the properties of Paddle and its devices.

    If Paddle cannot be imported, `problem` contains the error message. If the training program cannot be imported,
    `trainer_problem` does. `unusable` maps the numbers of devices that failed to error messages.
    """
    try:
        import paddle
        from paddle.base import core
    except Exception as error:  # a broken build raises more than ImportError
        return {"problem": _summarize(error)}
    found: dict[str, Any] = {
        "paddle": paddle.__version__,
        "has_cuda": bool(paddle.is_compiled_with_cuda()),
        "cuda": str(paddle.version.cuda()) if paddle.is_compiled_with_cuda() else None,
        "custom_devices": list(paddle.device.get_all_custom_device_type() or ()),
        "count": count_devices(device),
        "has_nccl": bool(core.is_compiled_with_nccl()),
        "has_gloo": hasattr(core, "ProcessGroupGloo"),
        "unusable": {},
    }
    for number in use if device != "cpu" else [0]:
        if number >= found["count"]:
            continue
        try:
            paddle.set_device("cpu" if device == "cpu" else f"{device}:{number}")
            float(paddle.ones([1]).sum())
        except Exception as error:  # driver errors have many types
            found["unusable"][str(number)] = _summarize(error)
    try:
        _import_trainer() if paddleclas is None else _import_engine(paddleclas)
    except Exception as error:
        found["trainer_problem"] = _summarize(error)
    return found


def _import_trainer() -> None:
    """Import all packages that a rank imports: OpenCV, safetensors, ppcls, and this package."""
    import paddle

    import resnet50_pipeline.trainer.training  # noqa: F401
    from resnet50_pipeline.recipe.run import ArchConfig
    from resnet50_pipeline.trainer.network import build_network

    paddle.set_device("cpu")
    build_network(ArchConfig(name="ResNet18", class_num=2))


def _import_engine(home: str) -> None:
    """Import the packages that a checkout's `tools/train.py` imports, including the checkout's own `ppcls`."""
    sys.path.insert(0, home)
    importlib.import_module("ppcls.engine.engine")


def count_devices(device: str) -> int:
    """Return the number of devices of this kind that Paddle finds."""
    import paddle

    if device == "cpu":
        return 1
    if device == "gpu":
        return int(paddle.device.cuda.device_count())
    if device == "xpu":
        return int(paddle.base.core.get_xpu_device_count()) if paddle.is_compiled_with_xpu() else 0
    return sum(name.partition(":")[0] == device for name in paddle.device.get_available_custom_device() or ())


def _summarize(error: BaseException) -> str:
    """Return the last informative line of an error message. Paddle's messages start with a C++ traceback."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    informative = [line for line in lines if "Error" in line] or lines or [""]
    return f"{type(error).__name__}: {informative[-1][:200]}"


if __name__ == "__main__":
    sys.exit(main())
