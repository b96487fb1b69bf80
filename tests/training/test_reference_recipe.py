"""`conf/imagenet` matches every value, the launch command and the environment of PaddleClas' reference recipe."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import yaml

from resnet50_pipeline.paddleclas.config import TrainingPaths, render_training_config
from resnet50_pipeline.paddleclas.launch.command import TRAINER_PROGRAM, build_launch_command
from resnet50_pipeline.parameters import DatasetParameters, TrainingParameters
from resnet50_pipeline.recipes import RecipeConfigLoader
from resnet50_pipeline.settings import CONFIG_LOADER_ARGS

PROJECT = Path(__file__).parents[2]

NORMALIZE = {
    "NormalizeImage": {"scale": "1.0/255.0", "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "order": ""}
}
DECODE = {"DecodeImage": {"to_rgb": True, "channel_first": False}}
EVAL_OPS = [DECODE, {"ResizeImage": {"resize_short": 256}}, {"CropImage": {"size": 224}}, NORMALIZE]
LOADER = {
    "num_workers": 4,
    "use_shared_memory": True,
    "max_skipped_images": 0,
    "decode": "whole",
    "normalize_on_device": False,
}
METRIC = [{"TopkAcc": {"topk": [1, 5]}}]
LOSS = [{"CELoss": {"weight": 1.0, "epsilon": None}}]

# ppcls/configs/ImageNet/ResNet/ResNet50.yaml, release/2.6, with `pretrained: False`. `seed` and `use_dali` are optional
# keys of PaddleClas. Only the native trainer reads `keep_checkpoints`, `save_interval_steps`, `virtual_ranks`, the
# loader keys after `use_shared_memory`, `zero_init_residual` and `batch_norm_momentum` (the last two with Paddle's
# defaults).
REFERENCE = {
    "Global": {
        "checkpoints": None,
        "pretrained_model": None,
        "output_dir": "data/imagenet/06_models/training",
        "device": "gpu",
        "save_interval": 1,
        "save_interval_steps": 1000,
        "eval_during_train": True,
        "eval_interval": 1,
        "epochs": 120,
        "print_batch_step": 10,
        "use_visualdl": False,
        "image_shape": [3, 224, 224],
        "save_inference_dir": "data/imagenet/06_models/training/inference",
        "to_static": False,
        "use_dali": False,
        "update_freq": 1,
        "virtual_ranks": 4,
        "seed": 42,
        "keep_checkpoints": 2,
    },
    "Arch": {
        "name": "ResNet50",
        "class_num": 1000,
        "pretrained": False,
        "data_format": "NCHW",
        "lr_mult_list": [1.0, 1.0, 1.0, 1.0, 1.0],
        "freeze": [],
        "zero_init_residual": False,
        "batch_norm_momentum": 0.9,
    },
    "Loss": {"Train": LOSS, "Eval": LOSS},
    "Optimizer": {
        "name": "Momentum",
        "momentum": 0.9,
        "use_nesterov": False,
        "multi_precision": True,
        "no_weight_decay_name": None,
        "one_dim_param_no_weight_decay": False,
        "lr": {
            "name": "Piecewise",
            "decay_epochs": [30, 60, 90],
            "values": [0.1, 0.01, 0.001, 0.0001],
            "warmup_epoch": 0,
            "warmup_start_lr": 0.0,
            "by_epoch": False,
        },
        "regularizer": {"name": "L2", "coeff": 0.0001},
    },
    "DataLoader": {
        "Train": {
            "dataset": {
                "name": "ImageNetDataset",
                "image_root": "/data/imagenet",
                "cls_label_path": "data/imagenet/05_model_input/train_list.txt",
                "transform_ops": [
                    DECODE,
                    {"RandCropImage": {"size": 224, "scale": [0.08, 1.0], "ratio": [3 / 4, 4 / 3]}},
                    {"RandFlipImage": {"flip_code": 1}},
                    NORMALIZE,
                ],
            },
            "sampler": {"name": "DistributedBatchSampler", "batch_size": 64, "drop_last": False, "shuffle": True},
            "loader": LOADER,
        },
        "Eval": {
            "dataset": {
                "name": "ImageNetDataset",
                "image_root": "/data/imagenet",
                "cls_label_path": "data/imagenet/05_model_input/val_list.txt",
                "transform_ops": EVAL_OPS,
            },
            "sampler": {"name": "DistributedBatchSampler", "batch_size": 64, "drop_last": False, "shuffle": False},
            "loader": LOADER,
        },
    },
    "Infer": {
        "infer_imgs": "/data/imagenet/val",
        "batch_size": 64,
        "transforms": [*EVAL_OPS, {"ToCHWImage": {}}],
        "PostProcess": {"name": "Topk", "topk": 5, "class_id_map_file": None},
    },
    "Metric": {"Train": METRIC, "Eval": METRIC},
}


@pytest.fixture(scope="module")
def parameters() -> dict:
    loader = RecipeConfigLoader(
        conf_source=str(PROJECT / "conf"),
        env="imagenet",
        runtime_params={"dataset": {"root": "/data/imagenet"}},
        **CONFIG_LOADER_ARGS,
    )
    return loader["parameters"]


@pytest.fixture(scope="module")
def training(parameters: dict) -> TrainingParameters:
    return TrainingParameters.model_validate(parameters["training"])


def test_rendered_yaml_equals_reference(parameters: dict, training: TrainingParameters):
    """The rendered YAML equals the reference file."""
    dataset = DatasetParameters.model_validate(parameters["dataset"])
    folder = Path("data/imagenet/05_model_input")
    paths = TrainingPaths(
        dataset_root=Path("/data/imagenet"),
        train_list=folder / "train_list.txt",
        val_list=folder / "val_list.txt",
        training_dir=Path("data/imagenet/06_models/training"),
    )
    config = render_training_config(training, dataset.class_num, paths)
    assert yaml.safe_load(config.to_yaml()) == REFERENCE


def test_launch_command_and_environment_match_reference(training: TrainingParameters):
    """For four GPUs, the launch command has the reference's arguments and its three environment variables."""
    command = build_launch_command(
        training.launch, Path("log"), ["train", "--config", "training_config.yaml"], inherited={"PATH": "/usr/bin"}
    )
    assert command.arguments == (
        sys.executable,
        "-u",
        "-m",
        "paddle.distributed.launch",
        "--gpus=0,1,2,3",
        "--log_dir=log",
        str(TRAINER_PROGRAM),
        "train",
        "--config",
        "training_config.yaml",
    )
    assert command.environment == {
        "HOME": str(Path("log/home").absolute()),
        "PATH": "/usr/bin",
        "CUDA_VISIBLE_DEVICES": "0,1,2,3",
        "FLAGS_cudnn_exhaustive_search": "True",
        "FLAGS_cudnn_batchnorm_spatial_persistent": "True",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(TRAINER_PROGRAM.parents[2]),
        "PYTHONUNBUFFERED": "1",
        "PYTHONUTF8": "1",
        "PYTHONSAFEPATH": "1",
    }
