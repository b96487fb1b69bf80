"""The program of one rank: `python -m paddle.distributed.launch … trainer/__main__.py train --config FILE`.

Paddle's launcher starts a file, not a module, so this is run by its path; it imports the installed package.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import zlib  # noqa: F401 - before paddle 2.6.2, which exports zlib's symbols and crashes whoever loads it later
from pathlib import Path

from resnet50_pipeline.exceptions import PipelineError
from resnet50_pipeline.trainer.heartbeat import exit_with_parent, tell_stacks_when_asked
from resnet50_pipeline.training_config import read_training_config
from resnet50_pipeline.training_dir import checkpoint_paths

logger = logging.getLogger("resnet50_pipeline.trainer")


def main(arguments: list[str] | None = None) -> int:
    """Run one subcommand; return the exit code. An error that a user can mend is one message, the last on stderr."""
    exit_with_parent()
    tell_stacks_when_asked()
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
    for name, what, run in (
        ("train", "train, from the start or from Global.checkpoints", _train),
        ("evaluate", "predict every image of a list", _evaluate),
        ("export", "write the inference model", _export),
    ):
        command = commands.add_parser(name, help=what)
        command.set_defaults(run=run)
        command.add_argument("--config", type=Path, required=True, help="PaddleClas YAML")
        if name == "train":
            command.add_argument("--go-on", action="store_true", help="from the newest checkpoint set, if there is one")
        else:
            command.add_argument("--output-dir", type=Path, required=True)
        if name == "evaluate":
            command.add_argument("--model", type=Path, required=True, help="checkpoint set, weights, exported model")
            command.add_argument("--list-file", type=Path, required=True)
        if name == "export":
            command.add_argument("--checkpoint", type=Path, required=True, help="checkpoint set")
            command.add_argument("--onnx", action="store_true", help="write inference.onnx, too")
            command.add_argument("--label-map", type=Path, required=True, help="JSON, names by class id")
            command.add_argument("--check-images", type=int, required=True)
            command.add_argument("--tolerance", type=float, required=True)
    return parser


def _train(options: argparse.Namespace) -> None:
    from resnet50_pipeline.trainer.heartbeat import Heartbeat
    from resnet50_pipeline.trainer.ranks import join_ranks, own_rank
    from resnet50_pipeline.trainer.training import TrainingRun

    config = read_training_config(options.config)
    if options.go_on and (found := checkpoint_paths(Path(config.Global.output_dir))):
        # Before the ranks meet: until they have, none of them writes another set.
        going_on = config.Global.model_copy(update={"checkpoints": str(found[-1])})
        config = config.model_copy(update={"Global": going_on})
    heartbeat = Heartbeat(Path(config.Global.output_dir), own_rank())
    TrainingRun(config, join_ranks(config.Global.device), heartbeat).execute()


def _evaluate(options: argparse.Namespace) -> None:
    from resnet50_pipeline.trainer.evaluation import evaluate
    from resnet50_pipeline.trainer.heartbeat import Heartbeat
    from resnet50_pipeline.trainer.ranks import join_ranks, own_rank

    config = read_training_config(options.config)
    heartbeat = Heartbeat(options.output_dir, own_rank())
    ranks = join_ranks(config.Global.device)
    evaluate(config, ranks, heartbeat, model=options.model, list_file=options.list_file)


def _export(options: argparse.Namespace) -> None:
    import paddle

    from resnet50_pipeline.trainer.export import export_checkpoint

    # The exported program is the same from every device; one CPU process does not wait for cards.
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
