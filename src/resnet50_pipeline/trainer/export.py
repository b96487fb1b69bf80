"""The inference model of a checkpoint set, checked to give the checkpoint's own outputs on real images."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import paddle
import paddle.nn.functional as F  # noqa: N812 - the field's own abbreviation
import yaml
from numpy.typing import NDArray
from paddle import inference

from resnet50_pipeline.checkpoint_set import read_state
from resnet50_pipeline.exceptions import ExportError
from resnet50_pipeline.files import write_text
from resnet50_pipeline.imagenet.list_files import read_list_file
from resnet50_pipeline.trainer.checkpoint import load_evaluated_weights
from resnet50_pipeline.trainer.data import ListDataset
from resnet50_pipeline.trainer.evaluated_model import evaluated_weights_digest
from resnet50_pipeline.trainer.network import build_network
from resnet50_pipeline.trainer.onnx import run_onnx, write_onnx
from resnet50_pipeline.training_config import TrainingConfig

MODEL = "inference"


class _Probabilities(paddle.nn.Layer):
    """The network followed by softmax, as PaddleClas' ExportModel ends it."""

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
    """Write `inference.*`, `inference.yml` (PaddleClas' format) and `export_check.json` into `output_dir`.

    The check runs the first `check_images` val images through the eager network and through Paddle Inference,
    and compares the probabilities; with `writes_onnx` also through `inference.onnx` and ONNX Runtime.

    Raises:
        ExportError: they differ by more than `tolerance`, and `export_check.json` says by how much; or the packages
            for ONNX are not installed.
    """
    read_state(checkpoint)
    # Weights know no layout, and Paddle Inference on a CPU mistakes the channels of an NHWC network.
    network = build_network(config.Arch.model_copy(update={"data_format": "NCHW"}))
    load_evaluated_weights(checkpoint, network)
    model = _Probabilities(network)
    model.eval()
    spec = paddle.static.InputSpec([None, *config.Global.image_shape], "float32", name="x")
    output_dir.mkdir(parents=True, exist_ok=True)
    paddle.jit.save(model, str(output_dir / MODEL), input_spec=[spec])
    write_text(output_dir / "inference.yml", _inference_yaml(config, label_names))

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
        # NaN is no agreement.
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


def _first_images(config: TrainingConfig, count: int) -> NDArray[np.float32]:
    split = config.DataLoader.Eval
    entries = read_list_file(Path(split.dataset.cls_label_path), class_num=config.Arch.class_num)
    dataset = ListDataset(entries, split, config.Global.seed)
    return np.stack([dataset[0, index][0] for index in range(min(count, len(dataset)))])


def _run_inference(model_dir: Path, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return what Paddle Inference, a fresh predictor without the network's code, makes of the images."""
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
