"""What a rank would find, printed as one line of JSON: `python trainer/probe.py --device gpu --use 0,1`.

Preflight starts it with the interpreter and the environment of the ranks, and reads the last line.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import zlib  # noqa: F401 - before paddle 2.6.2, which exports zlib's symbols and crashes whoever loads it later
from collections.abc import Sequence
from typing import Any


def main(arguments: list[str] | None = None) -> int:
    """Look, print and return 0; what is not there is part of what was found."""
    parser = argparse.ArgumentParser(prog="probe.py", description=__doc__)
    parser.add_argument("--device", required=True, help="cpu, gpu, or a Paddle custom device's name")
    parser.add_argument("--use", default="0", help="numbers of the devices that are to compute something, as 0,1")
    parser.add_argument("--paddleclas", help="checkout of PaddleClas whose engine is to train")
    options = parser.parse_args(arguments)
    found = find_out(options.device, [int(number) for number in options.use.split(",")], options.paddleclas)
    print(json.dumps(found), flush=True)
    return 0


def find_out(device: str, use: Sequence[int], paddleclas: str | None = None) -> dict[str, Any]:
    """Return what Paddle, its devices and the trainer's imports are. `problem` and `trainer_problem` say what fails."""
    try:
        import paddle
        from paddle.base import core
    except Exception as error:  # an ImportError, or whatever a broken build raises
        return {"problem": _words(error)}
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
        except Exception as error:  # a driver's failure comes as one of many types
            found["unusable"][str(number)] = _words(error)
    try:
        _import_trainer() if paddleclas is None else _import_engine(paddleclas)
    except Exception as error:
        found["trainer_problem"] = _words(error)
    return found


def _import_trainer() -> None:
    """Import everything that a rank does: OpenCV, safetensors, ppcls, and this package."""
    import paddle

    import resnet50_pipeline.trainer.training  # noqa: F401
    from resnet50_pipeline.trainer.network import build_network
    from resnet50_pipeline.training_config import ArchConfig

    paddle.set_device("cpu")
    build_network(ArchConfig(name="ResNet18", class_num=2))


def _import_engine(home: str) -> None:
    """Import what `tools/train.py` of a checkout does; its `ppcls` comes before any other."""
    sys.path.insert(0, home)
    importlib.import_module("ppcls.engine.engine")


def count_devices(device: str) -> int:
    """Return how many devices of this kind Paddle sees."""
    import paddle

    if device == "cpu":
        return 1
    if device == "gpu":
        return int(paddle.device.cuda.device_count())
    if device == "xpu":
        return int(paddle.base.core.get_xpu_device_count()) if paddle.is_compiled_with_xpu() else 0
    return sum(name.partition(":")[0] == device for name in paddle.device.get_available_custom_device() or ())


def _words(error: BaseException) -> str:
    """Return the last line of an error that says something; Paddle's begin with a C++ traceback."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if "Error" in line] or lines or [""]
    return f"{type(error).__name__}: {telling[-1][:200]}"


if __name__ == "__main__":
    sys.exit(main())
