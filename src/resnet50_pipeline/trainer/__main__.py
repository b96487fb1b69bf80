"""A rank's command line: `python -m paddle.distributed.launch … trainer/__main__.py train --config FILE`.

Paddle's launcher runs script files, not modules, so it gets the path of this file, which imports the installed package.
"""

from __future__ import annotations

import argparse
import json
import logging
import signal
import sys
import zlib  # noqa: F401 - must precede paddle 2.6.2, which exports zlib's symbols and crashes later users of zlib
from pathlib import Path

from resnet50_pipeline.exceptions import PipelineError
from resnet50_pipeline.processes.parent_death import signal_on_parent_death
from resnet50_pipeline.recipe.document import read_training_config
from resnet50_pipeline.trainer.heartbeat import dump_stacks_on_signal

logger = logging.getLogger("resnet50_pipeline.trainer")


def main(arguments: list[str] | None = None) -> int:
    """Run a subcommand and return the exit code. A `PipelineError` is printed as the last message on stderr."""
    # The guard (paddleclas/launch/guard.py) stops ranks whose launcher has died. This call stops them even if the guard
    # itself was killed.
    signal_on_parent_death(signal.SIGKILL)
    dump_stacks_on_signal()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except PipelineError as error:
        logger.debug("", exc_info=True)
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        return error.exit_code
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="resnet50_pipeline.trainer", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, description, run in (
        ("train", "train from scratch, or resume from Global.checkpoints", _train),
        ("evaluate", "predict the class of every image in a list", _evaluate),
        ("measure-robustness", "predict the class of corrupted copies of every image in a list", _measure_robustness),
        ("export", "write the inference model", _export),
    ):
        command = commands.add_parser(name, help=description)
        command.set_defaults(run=run)
        command.add_argument("--config", type=Path, required=True, help="PaddleClas YAML file")
        if name == "train":
            command.add_argument(
                "--resume-newest", action="store_true", help="resume from the newest checkpoint set, if there is one"
            )
        else:
            command.add_argument("--output-dir", type=Path, required=True)
        if name in ("evaluate", "measure-robustness"):
            command.add_argument(
                "--model", type=Path, required=True, help="checkpoint set, weights file or exported model"
            )
            command.add_argument("--list-file", type=Path, required=True)
        if name == "measure-robustness":
            command.add_argument("--corruptions", nargs="+", required=True)
        if name == "evaluate":
            command.add_argument("--grad-cam-images", type=int, default=0, help="number of images with heat maps")
        if name == "export":
            command.add_argument("--checkpoint", type=Path, required=True, help="checkpoint set")
            command.add_argument("--onnx", action="store_true", help="also write inference.onnx")
            command.add_argument("--label-map", type=Path, required=True, help="JSON file with the class names")
            command.add_argument("--check-images", type=int, required=True)
            command.add_argument("--tolerance", type=float, required=True)
    return parser


def _train(options: argparse.Namespace) -> None:
    from resnet50_pipeline.trainer.training import train

    train(options.config, resumes_newest=options.resume_newest)


def _evaluate(options: argparse.Namespace) -> None:
    from resnet50_pipeline.trainer.evaluation import evaluate
    from resnet50_pipeline.trainer.heartbeat import Heartbeat
    from resnet50_pipeline.trainer.ranks import join_ranks, own_rank

    config = read_training_config(options.config)
    heartbeat = Heartbeat(options.output_dir, own_rank())
    ranks = join_ranks(config.Global.device)
    evaluate(
        config,
        ranks,
        heartbeat,
        model=options.model,
        list_file=options.list_file,
        grad_cam_images=options.grad_cam_images,
    )


def _measure_robustness(options: argparse.Namespace) -> None:
    from resnet50_pipeline.trainer.heartbeat import Heartbeat
    from resnet50_pipeline.trainer.ranks import join_ranks, own_rank
    from resnet50_pipeline.trainer.robustness.measurement import measure_robustness

    config = read_training_config(options.config)
    heartbeat = Heartbeat(options.output_dir, own_rank())
    measure_robustness(
        config,
        join_ranks(config.Global.device),
        heartbeat,
        model=options.model,
        list_file=options.list_file,
        corruptions=options.corruptions,
    )


def _export(options: argparse.Namespace) -> None:
    import paddle

    from resnet50_pipeline.trainer.export import export_checkpoint

    # The exported program is the same on every device, and a CPU process does not have to wait for a free GPU.
    paddle.set_device("cpu")
    label_map = json.loads(options.label_map.read_text(encoding="utf-8"))
    export_checkpoint(
        read_training_config(options.config),
        options.checkpoint,
        options.output_dir,
        label_names=[entry["name"] for entry in label_map["classes"]],
        check_images=options.check_images,
        tolerance=options.tolerance,
        writes_onnx=options.onnx,
    )


if __name__ == "__main__":
    sys.exit(main())
