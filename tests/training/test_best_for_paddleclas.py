"""`best.pdparams` contains the best weights in PaddleClas' format."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from resnet50_pipeline.training_dir import best_checkpoint
from short_training import train

# Loads the weights as `Arch.pretrained` in the wheel does (ppcls/utils/save_load.py), from a path without a suffix and
# without this project's code.
PADDLECLAS = """
import logging, sys, importlib.util
from pathlib import Path
sys.path.insert(0, str(Path(importlib.util.find_spec("paddleclas").origin).parent))
import numpy as np, paddle
from ppcls.arch import build_model
from ppcls.utils import logger
from ppcls.utils.save_load import load_dygraph_pretrain
logger.init_logger(log_level=logging.ERROR)
network = build_model({"Arch": {"name": sys.argv[5], "class_num": 3, "pretrained": False}})
load_dygraph_pretrain(network, sys.argv[1])
network.eval()
np.save(sys.argv[3], network(paddle.to_tensor(np.load(sys.argv[2]))).numpy())
"""
OURS = """
import sys
from pathlib import Path
import numpy as np, paddle
from resnet50_pipeline.trainer.checkpoints.weights import load_evaluated_weights
from resnet50_pipeline.trainer.network import build_network
from resnet50_pipeline.recipe.document import read_training_config
network = build_network(read_training_config(Path(sys.argv[4])).Arch)
load_evaluated_weights(Path(sys.argv[1]), network)
network.eval()
np.save(sys.argv[3], network(paddle.to_tensor(np.load(sys.argv[2]))).numpy())
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "ema_decay"),
    [pytest.param("ResNet50", None, marks=pytest.mark.exhaustive), ("ResNet18", 0.5)],
    ids=["weights", "averaged weights"],
)
def test_paddleclas_loads_the_best_weights(
    dataset_parameters, training_parameters: Callable, tmp_path: Path, name: str, ema_decay: float | None
):
    """If PaddleClas loads best.pdparams, its logits are bit-identical to those of the best checkpoint set."""
    folder = train(training_parameters(epochs=1, arch={"name": name}, ema_decay=ema_decay), dataset_parameters)
    images = tmp_path / "images.npy"
    np.save(images, np.random.default_rng(0).normal(size=(4, 3, 32, 32)).astype(np.float32))
    logits = []
    for program, weights in ((PADDLECLAS, folder / "best"), (OURS, best_checkpoint(folder))):
        found = tmp_path / f"{len(logits)}.npy"
        command = [sys.executable, "-W", "ignore", "-c", program, str(weights), str(images), str(found)]
        done = subprocess.run(
            [*command, str(folder / "training_config.yaml"), name], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        logits.append(np.load(found))
    np.testing.assert_array_equal(*logits)
    assert yaml.safe_load((folder / "best.json").read_text())["epoch"] == 1
