"""PaddleClas' own `tools/eval.py` and `tools/export_model.py` on the best checkpoint set: a second opinion on ours."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from safetensors.numpy import load_file

from resnet50_pipeline.checkpoint_set import EMA, WEIGHTS, read_state
from resnet50_pipeline.exceptions import RankFailedError
from resnet50_pipeline.files import write_text
from resnet50_pipeline.paddleclas.supervise import run_ranks
from resnet50_pipeline.paddleclas.upstream import PaddleClasCheckout
from resnet50_pipeline.paddleclas.upstream_config import to_upstream_config
from resnet50_pipeline.paddleclas.upstream_log import EvalAverage, read_log_line
from resnet50_pipeline.paddleclas.upstream_scribe import LogTail
from resnet50_pipeline.parameters import LaunchParameters
from resnet50_pipeline.pdparams import write_pdparams
from resnet50_pipeline.training_config import read_training_config
from resnet50_pipeline.training_dir import best_checkpoint, config_path

_RANK_0_LOG = "workerlog.0"


@dataclass(frozen=True)
class UpstreamEvaluation:
    """What PaddleClas says of the val list, with the five decimals that it prints."""

    loss: float
    top1: float


def evaluate_with_upstream(training_dir: Path, home: Path | None, launch: LaunchParameters) -> UpstreamEvaluation:
    """Evaluate the best set of a finished training, of either engine, with `tools/eval.py` on one rank.

    One, for with more upstream's evaluation fails on CPU, and everywhere it counts the images twice that pad the last
    batch of a rank (`DistributedBatchSampler`) unless they come last of all.

    Raises:
        CheckpointError: the training is not finished, or the set is damaged.
        ParameterError: there is no checkout.
        RankFailedError: upstream failed, or printed no result.
    """
    with tempfile.TemporaryDirectory(prefix=".upstream-", dir=training_dir.parent) as folder:
        lines = _run("eval", Path(folder), training_dir, home, launch)
    results = [entry for line in lines if isinstance(entry := read_log_line(line), EvalAverage)]
    if not results:
        raise RankFailedError("tools/eval.py ended without an error and without a result; is the checkout complete?")
    return UpstreamEvaluation(loss=results[-1].values["loss"], top1=results[-1].values["top1"])


def export_with_upstream(training_dir: Path, home: Path | None, launch: LaunchParameters, output_dir: Path) -> None:
    """Write the inference model of the best set into `output_dir` with `tools/export_model.py`.

    Raises:
        CheckpointError, ParameterError, RankFailedError: as `evaluate_with_upstream`.
    """
    with tempfile.TemporaryDirectory(prefix=".upstream-", dir=training_dir.parent) as folder:
        _run("export_model", Path(folder), training_dir, home, launch, save_inference_dir=output_dir)
    if not list(output_dir.glob("inference.*")):
        raise RankFailedError(f"tools/export_model.py ended without an error, and {output_dir} holds no model")


def _run(
    tool: str,
    work_dir: Path,
    training_dir: Path,
    home: Path | None,
    launch: LaunchParameters,
    *,
    save_inference_dir: Path | None = None,
) -> list[str]:
    """Run one of upstream's programs on the best set, and return the lines of its log."""
    checkout = PaddleClasCheckout.find(home)
    checkpoint = best_checkpoint(training_dir)
    read_state(checkpoint)
    weights = work_dir / "weights.pdparams"
    write_pdparams(weights, load_file(checkpoint / (EMA if (checkpoint / EMA).is_file() else WEIGHTS)))
    config = read_training_config(config_path(training_dir))
    settings = config.Global.model_copy(
        update={
            "checkpoints": None,
            "pretrained_model": str(weights.absolute()),
            "output_dir": str(work_dir),
            "save_inference_dir": str(save_inference_dir or work_dir / "inference"),
        }
    )
    config = config.model_copy(update={"Global": settings})
    used = work_dir / "paddleclas_config.yaml"
    write_text(used, to_upstream_config(config, ranks=1, for_training=False).text)
    alone = launch.model_copy(update={"devices": launch.devices[:1]})
    logs = work_dir / "log"
    lines: list[str] = []
    tail = LogTail(logs / _RANK_0_LOG, work_dir, ranks=1)
    run_ranks(
        checkout.command(tool, used, alone, logs),
        work_dir,
        logs,
        launch.hang_timeout_seconds,
        ranks=1,
        check=lambda: lines.extend(tail.lines()),
    )
    return lines + tail.lines()
