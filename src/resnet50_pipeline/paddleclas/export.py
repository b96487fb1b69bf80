"""Exports the best checkpoint as an inference model by running the trainer program."""

from __future__ import annotations

import json
import logging
import sys
import tempfile
from pathlib import Path
from typing import Any

from resnet50_pipeline.files import staging_directory, write_text
from resnet50_pipeline.paddleclas.launch.command import TRAINER_PROGRAM, build_launch_command
from resnet50_pipeline.paddleclas.launch.supervise import run_program
from resnet50_pipeline.parameters import ModelRegistrationParameters, TrainingParameters
from resnet50_pipeline.progress import DRAWN, show_activity
from resnet50_pipeline.training_dir import best_checkpoint, config_path

logger = logging.getLogger(__name__)


def export_inference_model(
    training_dir: Path,
    label_map: dict[str, Any],
    model_registration: ModelRegistrationParameters,
    training: TrainingParameters,
) -> Path:
    """Export the best checkpoint to a staging folder and return the folder.

    The folder contains the inference model, `inference.yml`, the label map and the results of the export check.

    Raises:
        CheckpointError: if the training run has not finished, or the checkpoint is damaged.
        ExportError: if the exported model's outputs differ from the checkpoint's.
    """
    checkpoint = best_checkpoint(training_dir)
    logger.info("exporting %s for Paddle Inference", checkpoint, extra=DRAWN)
    with staging_directory(training_dir.parent) as staged, tempfile.TemporaryDirectory(prefix=".export-") as logs:
        label_map_file = staged / "label_map.json"
        write_text(label_map_file, json.dumps(label_map, indent=2, ensure_ascii=False) + "\n")
        program = [sys.executable, "-u", str(TRAINER_PROGRAM), "export"]
        program += [
            "--config",
            str(config_path(training_dir)),
            "--checkpoint",
            str(checkpoint),
            "--output-dir",
            str(staged),
        ]
        program += ["--label-map", str(label_map_file)]
        program += ["--check-images", str(model_registration.export_check_images)]
        program += ["--tolerance", str(model_registration.export_tolerance)]
        program += ["--onnx"] if model_registration.onnx else []
        launch = training.launch.on_this_machine_alone()
        environment = dict(build_launch_command(launch, Path(logs), []).environment)
        with show_activity("exporting the model and comparing it with the checkpoint"):
            run_program(program, environment, Path(logs) / "export.log", launch.hang_timeout_seconds)
    check = json.loads((staged / "export_check.json").read_text(encoding="utf-8"))
    onnx = check.get("max_onnx_probability_difference")
    logger.info(
        "the exported model agrees with the checkpoint on %d images: probabilities differ by at most %.1e%s",
        check["images"],
        check["max_probability_difference"],
        "" if onnx is None else f" (inference.onnx: {onnx:.1e})",
    )
    return staged
