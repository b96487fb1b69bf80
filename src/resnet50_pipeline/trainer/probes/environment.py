"""Prints the properties of Paddle and its devices as a line of JSON.

    python trainer/probes/environment.py --device gpu --use 0,1

Preflight runs this program with the ranks' interpreter and environment variables, and reads the last line of its
output.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import zlib  # noqa: F401 - must precede paddle 2.6.2, which exports zlib's symbols and crashes later users of zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from resnet50_pipeline.trainer.probes.cuda_libraries import missing_libraries, read_kernels


def main(arguments: list[str] | None = None) -> int:
    """Print the result and return 0. Problems are part of the result, so they do not change the exit code."""
    parser = argparse.ArgumentParser(prog="environment.py", description=__doc__)
    parser.add_argument("--device", required=True, help="cpu, gpu, or the name of a Paddle custom device")
    parser.add_argument("--use", default="0", help="numbers of the devices to test, such as 0,1")
    parser.add_argument("--network", help="network whose size to report (gpu only)")
    parser.add_argument("--paddleclas", help="PaddleClas checkout, if its engine does the training")
    options = parser.parse_args(arguments)
    found = probe_environment(options.device, [int(number) for number in options.use.split(",")], options.paddleclas)
    if options.network and options.device == "gpu" and not {"problem", "trainer_problem"} & found.keys():
        found["network"] = count_values(options.network)
    print(json.dumps(found), flush=True)
    return 0


def probe_environment(device: str, use: Sequence[int], paddleclas: str | None = None) -> dict[str, Any]:
    """Run a small computation on each device in `use`. Return the properties of Paddle and its devices.

    If Paddle cannot be imported, `problem` contains the error message. If the training program cannot be imported,
    `trainer_problem` contains the error message. `unusable` contains the error messages of devices that failed, keyed
    by device number.

    With `gpu`, the result has three more entries. `missing_libraries` contains the errors of CUDA libraries that cannot
    be loaded, keyed by wheel. `kernels` lists the compute capabilities that Paddle was built for. `unsupported`
    describes the devices that cannot run these kernels, keyed by device number.
    """
    try:
        import paddle
        from paddle.base import core
    except Exception as error:  # a broken build can also raise errors other than ImportError
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
    if device == "gpu" and found["has_cuda"]:
        found |= _probe_cuda([number for number in use if number < found["count"]])
    for number in use if device != "cpu" else [0]:
        if number >= found["count"] or found.get("missing_libraries") or str(number) in found.get("unsupported", ()):
            continue
        try:
            _compute("cpu" if device == "cpu" else f"{device}:{number}", use_amp=device == "gpu")
        except Exception as error:  # driver errors have many types
            found["unusable"][str(number)] = _summarize(error)
    try:
        _import_trainer() if paddleclas is None else _import_engine(paddleclas)
    except Exception as error:
        found["trainer_problem"] = _summarize(error)
    return found


def _probe_cuda(use: Sequence[int]) -> dict[str, Any]:
    import paddle

    installed = Path(paddle.__file__).parent
    kernels = read_kernels(installed)
    unsupported = {}
    for number in use:
        capability = tuple(paddle.device.cuda.get_device_capability(number))
        if not kernels.run_on(capability):
            name = paddle.device.cuda.get_device_name(number)
            unsupported[str(number)] = f"{name} (compute capability {capability[0]}.{capability[1]})"
    return {
        # Paddle 3 opens different names: its wheels depend on NVIDIA's wheels and find the libraries there.
        "missing_libraries": missing_libraries(installed) if paddle.__version__.startswith("2.") else {},
        "kernels": str(kernels),
        "unsupported": unsupported,
    }


def _compute(device: str, *, use_amp: bool) -> None:
    """Train a small network for one step on a device in float32, and with `use_amp` also in half precision."""
    import paddle

    paddle.set_device(device)
    network = paddle.nn.Sequential(
        paddle.nn.Conv2D(3, 8, 3), paddle.nn.BatchNorm2D(8), paddle.nn.Flatten(), paddle.nn.Linear(8 * 6 * 6, 2)
    )
    optimizer = paddle.optimizer.Momentum(parameters=network.parameters())
    for is_half in (False, True) if use_amp else (False,):
        scaler = paddle.amp.GradScaler(enable=is_half)
        with paddle.amp.auto_cast(enable=is_half):
            loss = network(paddle.ones([2, 3, 8, 8])).mean()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        float(loss)


def count_values(name: str) -> dict[str, int]:
    """Return a network's number of parameters, and the number of activations kept for its backward pass.

    The activations are the outputs of all convolutions and ReLUs for a 224x224 image. Normalization outputs are not
    kept, because only a ReLU or an addition follows them.
    """
    import paddle
    from paddle.nn import Conv2D, ReLU

    from resnet50_pipeline.recipe.run import ArchConfig
    from resnet50_pipeline.trainer.network import build_network

    paddle.set_device("cpu")
    network = build_network(ArchConfig(name=name, class_num=1000))
    size, sizes = 64, []  # activations are proportional to the number of pixels, so a small image is enough
    for layer in network.sublayers():
        if isinstance(layer, (Conv2D, ReLU)):
            layer.register_forward_post_hook(lambda _layer, _inputs, output: sizes.append(output.size))
    network.eval()
    with paddle.no_grad():
        network(paddle.zeros([1, 3, size, size]))
    parameters = sum(parameter.size for parameter in network.parameters() if not parameter.stop_gradient)
    return {"parameters": int(parameters), "activations": round(sum(map(int, sizes)) * (224 / size) ** 2)}


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
