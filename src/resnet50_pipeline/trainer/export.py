"""Exports a checkpoint set as an inference model, and compares the two on real images."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import paddle.nn.functional as F  # noqa: N812 - the field's own abbreviation
import yaml
from numpy.typing import NDArray
from paddle import inference

from resnet50_pipeline.checkpoint_set import PARAMETER_NAMES, read_state
from resnet50_pipeline.exceptions import ExportError
from resnet50_pipeline.files import write_text
from resnet50_pipeline.imagenet.lists.files import read_list_file
from resnet50_pipeline.recipe.document import TrainingConfig
from resnet50_pipeline.trainer.checkpoints.weights import load_evaluated_weights
from resnet50_pipeline.trainer.data.dataset import ListDataset
from resnet50_pipeline.trainer.evaluated_model import evaluated_weights_digest
from resnet50_pipeline.trainer.network import build_network
from resnet50_pipeline.trainer.onnx import run_onnx, write_onnx

MODEL = "inference"


class _Probabilities(paddle.nn.Layer):
    """Appends softmax to a network, as PaddleClas' ExportModel does."""

    def __init__(self, network: paddle.nn.Layer) -> None:
        super().__init__()
        self._network = network

    def forward(self, images: paddle.Tensor) -> paddle.Tensor:
        return F.softmax(self._network(images), axis=-1)


def export_checkpoint(
    config: TrainingConfig,
    checkpoint: Path,
    output_dir: Path,
    *,
    label_names: list[str],
    check_images: int,
    tolerance: float,
    writes_onnx: bool = False,
) -> None:
    """Export a checkpoint set as an inference model and check the result.

    Writes `inference.*`, `inference.yml` (PaddleClas' format), `parameter_names.json` (for training that starts from
    the exported model) and `export_check.json` to `output_dir`. The check runs the first `check_images` val images
    through the network and through Paddle Inference, and compares the probabilities. If `writes_onnx` is true, the
    check does the same with `inference.onnx` and ONNX Runtime.

    Args:
        config: configuration of the run.
        checkpoint: checkpoint set to export.
        output_dir: folder for the inference model.
        label_names: class names, indexed by class id.
        check_images: number of val images to check.
        tolerance: largest difference in probability that passes the check.
        writes_onnx: whether to also write `inference.onnx`.

    Raises:
        ExportError: if a difference exceeds `tolerance` (`export_check.json` lists the differences), or the ONNX
            packages are not installed.
    """
    read_state(checkpoint)
    # Export in NCHW, because Paddle Inference on a CPU mixes up the channels of an NHWC network. The weights are the
    # same in both layouts.
    network = build_network(config.Arch.model_copy(update={"data_format": "NCHW"}))
    load_evaluated_weights(checkpoint, network)
    model = _Probabilities(network)
    model.eval()
    spec = paddle.static.InputSpec([None, *config.Global.image_shape], "float32", name="x")
    output_dir.mkdir(parents=True, exist_ok=True)
    paddle.jit.save(model, str(output_dir / MODEL), input_spec=[spec])
    write_text(output_dir / "inference.yml", _inference_yaml(config, label_names))
    write_text(output_dir / PARAMETER_NAMES, json.dumps(match_parameters(output_dir, network), indent=2) + "\n")

    images = _first_images(config, check_images)
    with paddle.no_grad():
        expected = model(paddle.to_tensor(images)).numpy()
    outputs = {"max_probability_difference": _run_inference(output_dir, images)}
    if writes_onnx:
        outputs["max_onnx_probability_difference"] = run_onnx(write_onnx(output_dir), images)
    differences = {name: float(np.abs(output - expected).max()) for name, output in outputs.items()}
    check = {
        "images": len(images),
        **differences,
        "tolerance": tolerance,
        # Every comparison with NaN is false, so NaN fails the check.
        "passed": all(difference <= tolerance for difference in differences.values()),
        "weights_digest": evaluated_weights_digest(checkpoint),
    }
    write_text(output_dir / "export_check.json", json.dumps(check, indent=2) + "\n")
    if not check["passed"]:
        found = ", ".join(f"{name} {difference:.2e}" for name, difference in differences.items())
        raise ExportError(
            f"the exported model's probabilities differ from the checkpoint's on {len(images)} val images: {found}; "
            f"model_registration.export_tolerance allows {tolerance:.2e}"
        )


def match_parameters(model_dir: Path, network: paddle.nn.Layer) -> dict[str, str]:
    """Map the name of each parameter and running statistic in the exported program to its name in the network.

    Tensors are matched by value. Tensors with equal values are interchangeable.

    Raises:
        ExportError: if the program has a tensor that the network does not have.
    """
    names: dict[tuple[Any, ...], list[str]] = {}
    for name, tensor in network.state_dict().items():
        names.setdefault(_content(tensor), []).append(name)
    found = {}
    for exported, tensor in paddle.jit.load(str(model_dir / MODEL)).state_dict().items():
        same = names.get(_content(tensor))
        if not same:
            raise ExportError(
                f"{model_dir}: tensor {exported} of the exported program is not in the checkpoint; please report this "
                "bug in the export code"
            )
        found[exported] = same.pop()
    return found


def _content(tensor: paddle.Tensor) -> tuple[Any, ...]:
    array = tensor.numpy()
    return array.shape, hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def _first_images(config: TrainingConfig, count: int) -> NDArray[np.float32]:
    split = config.DataLoader.Eval
    entries = read_list_file(Path(split.dataset.cls_label_path), class_num=config.Arch.class_num)
    dataset = ListDataset(entries, split, config.Global.seed)
    return np.stack([dataset[0, index][0] for index in range(min(count, len(dataset)))])


def _run_inference(model_dir: Path, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the probabilities that Paddle Inference computes from the exported files alone."""
    program = next(path for path in (model_dir / f"{MODEL}.json", model_dir / f"{MODEL}.pdmodel") if path.exists())
    settings = inference.Config(str(program), str(model_dir / f"{MODEL}.pdiparams"))
    settings.disable_glog_info()
    predictor = inference.create_predictor(settings)
    predictor.get_input_handle(predictor.get_input_names()[0]).copy_from_cpu(images)
    predictor.run()
    output: NDArray[np.float32] = predictor.get_output_handle(predictor.get_output_names()[0]).copy_to_cpu()
    return output


def _inference_yaml(config: TrainingConfig, label_names: list[str]) -> str:
    content = {
        "Global": {"model_name": config.Arch.name},
        "PreProcess": {"transform_ops": [op.as_mapping() for op in config.Infer.transforms]},
        "PostProcess": {"Topk": {"topk": config.Infer.PostProcess.topk, "label_list": label_names}},
    }
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
