"""Computes the results of PaddleClas' schedules, optimizers, losses, and averages for given YAML sections and inputs.

With a checkout of release/2.6, this program writes them to `upstream_optimization.json`:

    python tests/upstream_optimization.py "$PADDLECLAS_HOME" > tests/upstream_optimization.json
"""

from __future__ import annotations

import copy
import json
import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = Path(__file__).with_suffix(".json")
EPOCHS, STEPS = 5, 3
CLASSES = 4

_REFERENCE = {"name": "Piecewise", "decay_epochs": [1, 3], "values": [0.1, 0.01, 0.001]}
SCHEDULES: dict[str, dict[str, Any]] = {
    "piecewise": _REFERENCE,
    "piecewise, warm-up": {**_REFERENCE, "warmup_epoch": 2, "warmup_start_lr": 0.02},
    "piecewise, by epoch": {**_REFERENCE, "by_epoch": True, "warmup_epoch": 1},
    "cosine": {"name": "Cosine", "learning_rate": 0.4, "eta_min": 0.01},
    "cosine, warm-up": {"name": "Cosine", "learning_rate": 0.4, "warmup_epoch": 2, "warmup_start_lr": 0.1},
    "cosine, by epoch": {"name": "Cosine", "learning_rate": 0.4, "warmup_epoch": 2, "by_epoch": True},
    "linear": {"name": "Linear", "learning_rate": 0.4, "end_lr": 0.02, "warmup_epoch": 1},
    "linear, squared": {"name": "Linear", "learning_rate": 0.4, "power": 2.0},
    "linear, by epoch": {"name": "Linear", "learning_rate": 0.4, "by_epoch": True},
}

_COSINE = {"name": "Cosine", "learning_rate": 0.1, "warmup_epoch": 1, "warmup_start_lr": 0.05}
_SGD = {"name": "Momentum", "momentum": 0.9, "lr": _COSINE, "regularizer": {"name": "L2", "coeff": 0.1}}
_ADAMW = {"name": "AdamW", "beta2": 0.99, "weight_decay": 0.5, "lr": _COSINE}
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "momentum": _SGD,
    "nesterov": {**_SGD, "use_nesterov": True},
    "no decay": {**_SGD, "regularizer": {"name": "L2", "coeff": 0.0}},
    "no decay by name": {**_SGD, "no_weight_decay_name": "conv fc.bias"},
    "clipped": {**_SGD, "clip_norm": 0.5},
    "adamw": _ADAMW,
    "adamw, no decay by name": {**_ADAMW, "no_weight_decay_name": "bn fc.bias"},
    "adamw, no decay of one dimension": {**_ADAMW, "one_dim_param_no_weight_decay": True, "epsilon": 1e-3},
    "adamw, clipped": {**_ADAMW, "clip_norm": 0.5},
}

# Section, and whether the images are mixed. CELoss without epsilon takes the softmax of a mixed target upstream.
LOSSES: dict[str, tuple[dict[str, Any], bool]] = {
    "cross entropy": ({"CELoss": {"weight": 1.0, "epsilon": None}}, False),
    "smoothed": ({"CELoss": {"weight": 1.0, "epsilon": 0.1}}, False),
    "smoothed, mixed": ({"CELoss": {"weight": 1.0, "epsilon": 0.1}}, True),
    "binary, mixed": ({"MultiLabelLoss": {"weight": 1.0, "epsilon": None, "size_sum": False}}, True),
    "binary, smoothed": ({"MultiLabelLoss": {"weight": 1.0, "epsilon": 0.1, "size_sum": False}}, False),
    "binary, smoothed, mixed, summed": ({"MultiLabelLoss": {"weight": 1.0, "epsilon": 0.1, "size_sum": True}}, True),
}
DECAY = 0.7


def given_logits() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return logits [6, 4], labels, labels of the mixed-in images, and the mixing weights of the first images."""
    random = np.random.default_rng(3)
    labels, others = random.integers(0, CLASSES, (2, 6))
    logits = 3 * random.normal(size=(6, CLASSES))
    return logits.astype(np.float32), labels, others, random.random(6).astype(np.float32)


def build_small_network() -> Any:
    """Return a network with a convolution, a BatchNorm, and a head, with given weights."""
    import paddle

    class Small(paddle.nn.Layer):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.conv = paddle.nn.Conv2D(2, 3, 1, bias_attr=False)
            self.bn = paddle.nn.BatchNorm(3)
            self.fc = paddle.nn.Linear(3, 2)

    network = Small()
    random = np.random.default_rng(1)
    for tensor in network.state_dict().values():
        tensor.set_value(random.normal(size=tensor.shape).astype(np.float32))
    return network


def optimize(network: Any, optimizer: Any, schedule: Any) -> list[float]:
    """Apply EPOCHS epochs of STEPS given gradients, and return the resulting weights."""
    import paddle

    random = np.random.default_rng(2)
    trained = [parameter for parameter in network.parameters() if not parameter.stop_gradient]
    for _ in range(EPOCHS):
        for _ in range(STEPS):
            for parameter in trained:
                parameter.grad = paddle.to_tensor(random.normal(size=parameter.shape).astype(np.float32))
            optimizer.step()
            optimizer.clear_grad()
            schedule.step()
    return weights_of(network)


def average(network: Any, update: Any) -> None:
    """Set a network's weights to four values in turn, and update its average after each."""
    random = np.random.default_rng(4)
    for _ in range(4):
        for tensor in network.state_dict().values():
            tensor.set_value(random.normal(size=tensor.shape).astype(np.float32))
        update()


def weights_of(network: Any) -> list[float]:
    """Return all weights and running statistics as one array."""
    return [float(value) for tensor in network.state_dict().values() for value in tensor.numpy().reshape(-1)]


def upstream_results(home: Path) -> dict[str, Any]:
    """Return the checkout's results for all cases. `ppcls` must not have been imported from elsewhere."""
    sys.path.insert(0, str(home))
    import paddle
    from ppcls.loss import build_loss
    from ppcls.optimizer import build_lr_scheduler, build_optimizer
    from ppcls.utils import logger
    from ppcls.utils.ema import ExponentialMovingAverage

    logger.init_logger(log_level=logging.ERROR)
    rates: dict[str, list[float]] = {}
    for case, section in SCHEDULES.items():
        schedule = build_lr_scheduler(copy.deepcopy(section), EPOCHS, STEPS)
        rates[case] = []
        for _ in range(EPOCHS):
            for _ in range(STEPS):
                rates[case].append(float(schedule()))
                if not schedule.by_epoch:
                    schedule.step()
            if schedule.by_epoch:
                schedule.step()
    moved: dict[str, list[float]] = {}
    for case, section in OPTIMIZERS.items():
        network = build_small_network()
        (optimizer,), (schedule,) = build_optimizer(copy.deepcopy(section), EPOCHS, STEPS, [network])
        moved[case] = optimize(network, optimizer, schedule)
    logits, labels, others, share = (paddle.to_tensor(array) for array in given_logits())
    one_hot = paddle.nn.functional.one_hot
    mixture = share[:, None] * one_hot(labels, CLASSES) + (1 - share[:, None]) * one_hot(others, CLASSES)
    losses = {
        case: float(build_loss([copy.deepcopy(section)])(logits, mixture if mixed else labels[:, None])["loss"])
        for case, (section, mixed) in LOSSES.items()
    }
    network = build_small_network()
    averaged = ExponentialMovingAverage(network, DECAY)
    average(network, lambda: averaged.update(network))
    return {"rates": rates, "moved": moved, "losses": losses, "average": weights_of(averaged.module)}


if __name__ == "__main__":
    results = upstream_results(Path(sys.argv[1]))
    sys.stdout.write("{\n")
    sys.stdout.write(
        ",\n".join(f'"{kind}": {json.dumps(found)}'.replace("], ", "],\n ") for kind, found in results.items())
    )
    sys.stdout.write("\n}\n")
