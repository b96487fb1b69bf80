"""A small inference model, as the registration stage exports it, with its expected outputs."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CLASSES = 7
SIZE = 32
IMAGES = 9
TRANSFORM = """
- DecodeImage: {to_rgb: true, channel_first: false}
- ResizeImage: {resize_short: 36}
- CropImage: {size: 32}
- NormalizeImage: {scale: 1.0/255.0, mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225], order: ''}
- ToCHWImage:
"""

# Runs in a subprocess, so that the test process does not import Paddle.
EXPORT = """
import sys
from pathlib import Path

import numpy as np
import paddle
import yaml

from resnet50_pipeline.imaging.operators import build_transform
from resnet50_pipeline.trainer.network import build_network
from resnet50_pipeline.recipe.run import ArchConfig

folder, classes, size = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
paddle.seed(3)
network = build_network(ArchConfig(name="ResNet18", class_num=classes))
model = paddle.nn.Sequential(network, paddle.nn.Softmax())
model.eval()
transform = build_transform(yaml.safe_load((folder / "inference.yml").read_text())["PreProcess"]["transform_ops"])
images = [transform(path.read_bytes(), None) for path in sorted((folder / "images").iterdir())]
hook = network.fc.register_forward_pre_hook(lambda _layer, inputs: np.save(folder / "features.npy", inputs[0].numpy()))
np.save(folder / "expected.npy", model(paddle.to_tensor(np.stack(images))).numpy())
hook.remove()
spec = paddle.static.InputSpec([None, 3, size, size], "float32", name="x")
paddle.jit.save(model, str(folder / "inference"), input_spec=[spec])
"""


@dataclass(frozen=True)
class ExportedModel:
    """A model folder, and images with their expected outputs.

    Attributes:
        folder: `inference.*`, `inference.yml`, `label_map.json`.
        images: encoded images, [N] of bytes.
        probabilities: outputs of the eager network, float32 [N, CLASSES].
        features: inputs of the eager network's classifier, float32 [N, 512].
    """

    folder: Path
    images: list[bytes]
    probabilities: NDArray[np.float32]
    features: NDArray[np.float32]


@pytest.fixture(scope="session")
def exported_model(tmp_path_factory) -> ExportedModel:
    """The wheel's ResNet18 with random weights, exported for Paddle Inference."""
    import cv2
    import numpy as np

    folder = tmp_path_factory.mktemp("exported") / "inference_model"
    (folder / "images").mkdir(parents=True)
    random = np.random.default_rng(1)
    images = []
    for number in range(IMAGES):
        noise = random.integers(0, 256, (6, 5, 3), dtype=np.uint8)
        pixels = cv2.resize(noise, (48, 40), interpolation=cv2.INTER_NEAREST)
        extension = ".png" if number == 0 else ".jpg"
        images.append(cv2.imencode(extension, pixels)[1].tobytes())
        (folder / "images" / f"{number:02}").write_bytes(images[-1])
    names = [f"name {number}" for number in range(CLASSES)]
    (folder / "inference.yml").write_text(
        f"Global: {{model_name: ResNet18}}\nPreProcess:\n  transform_ops:{TRANSFORM.replace(chr(10), chr(10) + '  ')}\n"
        f"PostProcess: {{Topk: {{topk: 5, label_list: {json.dumps(names)}}}}}\n"
    )
    classes = [{"id": number, "synset": f"n0000000{number}", "name": name} for number, name in enumerate(names)]
    (folder / "label_map.json").write_text(json.dumps({"class_num": CLASSES, "classes": classes}))
    command = [sys.executable, "-W", "ignore", "-c", EXPORT, str(folder), str(CLASSES), str(SIZE)]
    subprocess.run(command, check=True, timeout=120)
    return ExportedModel(folder, images, np.load(folder / "expected.npy"), np.load(folder / "features.npy"))
