"""Renders `params:training` as a complete PaddleClas YAML file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resnet50_pipeline.exceptions import TrainingConfigError
from resnet50_pipeline.imaging.base import Interpolation, NormalizedOperator
from resnet50_pipeline.imaging.operators import (
    CropImage,
    DecodeImage,
    NormalizeImage,
    Operator,
    RandCropImage,
    RandFlipImage,
    ResizeImage,
    ToCHWImage,
    TransformOp,
)
from resnet50_pipeline.parameters import TrainingParameters
from resnet50_pipeline.recipe.data_loader import (
    DataLoaderConfig,
    DatasetConfig,
    InferConfig,
    PostProcessConfig,
    SplitConfig,
)
from resnet50_pipeline.recipe.document import TrainingConfig
from resnet50_pipeline.recipe.loaders import LoaderConfig, SamplerConfig, SamplerOptions, WorkerOptions
from resnet50_pipeline.recipe.losses import (
    CELossConfig,
    LossConfig,
    LossItem,
    MetricConfig,
    MetricItem,
    MultiLabelLoss,
    MultiLabelLossConfig,
    TopkAccConfig,
)
from resnet50_pipeline.recipe.optimization import AdamW, AdamWConfig, MomentumConfig
from resnet50_pipeline.recipe.precision import AMPConfig, EMAConfig
from resnet50_pipeline.recipe.run import ArchConfig, GlobalConfig, Run
from resnet50_pipeline.recipe.transforms import EvalTransform, TrainTransform
from resnet50_pipeline.text import pluralize


@dataclass(frozen=True)
class TrainingPaths:
    """Files and folders that a training run reads and writes. The catalog defines them.

    Attributes:
        dataset_root: folder that the paths in the lists are relative to.
        train_list: list file of the training images, one `train/<synset>/<file> <label>` pair per line.
        val_list: list file of the val images.
        training_dir: folder for the events, checkpoint sets and logs.
        shards: folder of the shard set that contains the images in both lists. If None, training reads loose files.
    """

    dataset_root: Path
    train_list: Path
    val_list: Path
    training_dir: Path
    shards: Path | None = None


def render_training_config(
    training: TrainingParameters,
    class_num: int,
    paths: TrainingPaths,
    delimiters: tuple[str, str] = (" ", " "),
    *,
    tiff: bool = False,
) -> TrainingConfig:
    """Return the configuration for `tools/train.py` and the native trainer, including all default values.

    Args:
        training: the recipe and the launch settings.
        class_num: number of classes.
        paths: files and folders to write into the configuration.
        delimiters: characters between path and label in the train list and the val list.
        tiff: whether to accept TIFF files.

    Raises:
        TrainingConfigError: if the number of class weights differs from the number of classes, or if there is only one
            class and `training.record_margins` is true.
    """
    if training.record_margins and class_num < 2:
        raise TrainingConfigError(
            "training.record_margins is true, but there is only one class, and a margin is the distance between the "
            "logits of two classes; set training.record_margins to false"
        )
    topk = min(5, class_num)
    metrics = (MetricItem(TopkAcc=TopkAccConfig(topk=tuple(sorted({1, topk})))),)
    side, decode = training.eval_transform.size, DecodeImage(tiff=tiff)
    return TrainingConfig(
        Global=GlobalConfig(
            **training.model_dump(include=set(Run.model_fields) - {"virtual_ranks"}),
            virtual_ranks=training.shared_virtual_ranks,
            output_dir=str(paths.training_dir),
            device=training.launch.device,
            image_shape=(3, side, side),
            save_inference_dir=str(paths.training_dir / "inference"),
            pretrained_model=None if training.pretrained_model is None else str(training.pretrained_model),
            use_dali=training.loader.use_dali,
        ),
        AMP=AMPConfig(**training.amp.model_dump()) if training.amp.use_amp else None,
        EMA=None if training.ema_decay is None else EMAConfig(decay=training.ema_decay),
        Arch=ArchConfig(class_num=class_num, **training.arch.model_dump()),
        Loss=_render_loss(training, class_num),
        Optimizer=_render_optimizer(training),
        DataLoader=_render_data_loader(training, paths, delimiters, decode),
        Infer=InferConfig(
            infer_imgs=str(paths.dataset_root / "val"),
            batch_size=training.eval_batch_size_per_rank,
            transforms=(
                *_eval_operators(training.eval_transform, decode),
                TransformOp(operator=ToCHWImage()),
            ),
            PostProcess=PostProcessConfig(topk=topk),
        ),
        Metric=MetricConfig(Train=metrics, Eval=metrics),
    )


def has_recipe(config: TrainingConfig, training: TrainingParameters) -> bool:
    """Return whether a configuration has the same recipe as the parameters.

    Paths, devices, workers and the intervals for printing, evaluating and saving are not compared.

    Raises:
        TrainingConfigError: if the parameters cannot be rendered for the number of classes in the configuration.
    """
    train = config.DataLoader.Train.dataset
    decoders = [op.operator for op in train.transform_ops if isinstance(op.operator, DecodeImage)]
    rendered = render_training_config(
        training,
        config.Arch.class_num,
        TrainingPaths(
            Path(train.image_root),
            train_list=Path(train.cls_label_path),
            val_list=Path(config.DataLoader.Eval.dataset.cls_label_path),
            training_dir=Path(config.Global.output_dir),
        ),
        tiff=any(decoder.tiff for decoder in decoders),
    )
    return (
        config.Global.virtual_ranks in (None, training.virtual_ranks)  # None if the ranks could not share the parts
        and (config.Global.pretrained_model is None) == (training.pretrained_model is None)
        and _select_recipe(config) == _select_recipe(rendered)
    )


def _select_recipe(config: TrainingConfig) -> dict[str, Any]:
    """Return the values that a recipe sets, and the seed."""
    document = config.model_dump(mode="json")
    run, train, evaluation = document["Global"], document["DataLoader"]["Train"], document["DataLoader"]["Eval"]
    operators = ("transform_ops", "batch_transform_ops", "progressive_resize")
    return {
        **{name: run.get(name) for name in ("epochs", "update_freq", "seed", "best_metric", "patience", "use_dali")},
        **{name: document.get(name) for name in ("AMP", "EMA", "Arch", "Loss", "Optimizer")},
        "sampler": train["sampler"],
        "operators": [split["dataset"].get(name) for split in (train, evaluation) for name in operators],
    }


def _render_loss(training: TrainingParameters, class_num: int) -> LossConfig:
    """Return the `Loss` section. Evaluation always uses plain cross-entropy.

    Raises:
        TrainingConfigError: if the number of class weights differs from the number of classes.
    """
    epsilon = training.label_smoothing or None
    if isinstance(training.loss, MultiLabelLoss):
        options = training.loss.model_dump(exclude={"name"})
        trained = LossItem(MultiLabelLoss=MultiLabelLossConfig(epsilon=epsilon, **options))
    else:
        weights = training.loss.class_weights
        if isinstance(weights, tuple) and len(weights) != class_num:
            raise TrainingConfigError(
                f"training.loss.class_weights has {pluralize(len(weights), 'weight')}, but there are {class_num} "
                f"classes; set one weight per class, in the order of the label map"
            )
        trained = LossItem(CELoss=CELossConfig(epsilon=epsilon, **training.loss.model_dump(exclude={"name"})))
    return LossConfig(Train=(trained,), Eval=(LossItem(CELoss=CELossConfig()),))


def _render_optimizer(training: TrainingParameters) -> MomentumConfig | AdamWConfig:
    section = AdamWConfig if isinstance(training.optimizer, AdamW) else MomentumConfig
    return section(**dict(training.optimizer), lr=training.lr)


def _render_data_loader(
    training: TrainingParameters, paths: TrainingPaths, delimiters: tuple[str, str], decode: DecodeImage
) -> DataLoaderConfig:
    root, shards = str(paths.dataset_root), None if paths.shards is None else str(paths.shards)
    loader = training.loader
    return DataLoaderConfig(
        Train=SplitConfig(
            dataset=DatasetConfig(
                image_root=root,
                cls_label_path=str(paths.train_list),
                delimiter=_unless_space(delimiters[0]),
                shards=shards,
                transform_ops=_train_operators(training.train_transform, decode),
                batch_transform_ops=training.train_transform.batch_transform_ops,
                progressive_resize=training.train_transform.progressive_resize,
            ),
            sampler=SamplerConfig(
                **loader.model_dump(include=set(SamplerOptions.model_fields)),
                name="DistributedBatchSampler" if loader.num_repeats is None else "RASampler",
                batch_size=training.batch_size_per_rank,
                shuffle=True,
            ),
            loader=LoaderConfig(**loader.model_dump(include=set(WorkerOptions.model_fields))),
        ),
        Eval=SplitConfig(
            dataset=DatasetConfig(
                image_root=root,
                cls_label_path=str(paths.val_list),
                delimiter=_unless_space(delimiters[1]),
                shards=shards,
                transform_ops=_eval_operators(training.eval_transform, decode),
            ),
            sampler=SamplerConfig(batch_size=training.eval_batch_size_per_rank, shuffle=False),
            loader=LoaderConfig(num_workers=loader.num_workers),
        ),
    )


def _train_operators(transform: TrainTransform, decode: DecodeImage) -> tuple[TransformOp, ...]:
    augmentations = [op.operator for op in transform.augment_ops]
    crop = RandCropImage(
        size=transform.size,
        scale=transform.scale,
        ratio=transform.ratio,
        use_log_aspect=transform.use_log_aspect,
        interpolation=_unless_bilinear(transform.interpolation),
        backend=transform.backend,
    )
    return _named(
        decode,
        crop,
        *([RandFlipImage()] if transform.flip else []),
        *(operator for operator in augmentations if not isinstance(operator, NormalizedOperator)),
        NormalizeImage(),
        *(operator for operator in augmentations if isinstance(operator, NormalizedOperator)),
    )


def _eval_operators(transform: EvalTransform, decode: DecodeImage) -> tuple[TransformOp, ...]:
    resize = ResizeImage(
        resize_short=transform.resize_short,
        interpolation=_unless_bilinear(transform.interpolation),
        backend=transform.backend,
    )
    return _named(decode, resize, CropImage(size=transform.size), NormalizeImage())


def _named(*operators: Operator) -> tuple[TransformOp, ...]:
    return tuple(TransformOp(operator=operator) for operator in operators)


def _unless_space(delimiter: str) -> str | None:
    """Return None for the default delimiter, because PaddleClas' own files omit it."""
    return None if delimiter == " " else delimiter


def _unless_bilinear(interpolation: Interpolation) -> Interpolation | None:
    """Return None for the default interpolation, because PaddleClas' own files omit it."""
    return None if interpolation == "bilinear" else interpolation
