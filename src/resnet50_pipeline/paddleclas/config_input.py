"""The `DataLoader` section, and `Infer`'s transforms, from typed parameters."""

from __future__ import annotations

from pathlib import Path

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
from resnet50_pipeline.parameters import DatasetParameters, LoaderParameters, TrainingParameters
from resnet50_pipeline.training_config import (
    DataLoaderConfig,
    DatasetConfig,
    LoaderConfig,
    SamplerConfig,
    SplitConfig,
)


def render_data_loader(
    training: TrainingParameters, dataset: DatasetParameters, train_list: Path, val_list: Path, shards: Path | None
) -> DataLoaderConfig:
    """Return where images lie and what is done to them, for training and for evaluation."""
    packed = None if shards is None else str(shards)
    return DataLoaderConfig(
        Train=SplitConfig(
            dataset=DatasetConfig(
                image_root=str(dataset.root),
                cls_label_path=str(train_list),
                shards=packed,
                transform_ops=_train_transform(training),
                batch_transform_ops=training.train_transform.batch_transform_ops,
                progressive_resize=training.train_transform.progressive_resize,
            ),
            sampler=_train_sampler(training.batch_size_per_rank, training.loader),
            loader=LoaderConfig(
                num_workers=training.loader.num_workers,
                max_skipped_images=training.loader.max_skipped_images,
                decode=training.loader.decode,
                normalize_on_device=training.loader.normalize_on_device,
            ),
        ),
        Eval=SplitConfig(
            dataset=DatasetConfig(
                image_root=str(dataset.root),
                cls_label_path=str(val_list),
                shards=packed,
                transform_ops=_eval_transform(training),
            ),
            sampler=SamplerConfig(batch_size=training.eval_batch_size_per_rank, shuffle=False),
            loader=LoaderConfig(num_workers=training.loader.num_workers),
        ),
    )


def render_inference_transform(training: TrainingParameters) -> tuple[TransformOp, ...]:
    """Return what the exported model's images go through: the evaluation's, to channels first."""
    return (*_eval_transform(training), TransformOp(operator=ToCHWImage()))


def _train_sampler(batch_size: int, loader: LoaderParameters) -> SamplerConfig:
    return SamplerConfig(
        name="DistributedBatchSampler" if loader.num_repeats is None else "RASampler",
        batch_size=batch_size,
        drop_last=loader.drop_last,
        shuffle=True,
        num_repeats=loader.num_repeats,
    )


def _train_transform(training: TrainingParameters) -> tuple[TransformOp, ...]:
    parameters = training.train_transform
    augmentations = [op.operator for op in parameters.augment_ops]
    crop = RandCropImage(
        size=parameters.size,
        scale=parameters.scale,
        ratio=parameters.ratio,
        use_log_aspect=parameters.use_log_aspect,
        interpolation=_unless_bilinear(parameters.interpolation),
        backend=parameters.backend,
    )
    return _transform(
        DecodeImage(),
        crop,
        *([RandFlipImage()] if parameters.flip else []),
        *(operator for operator in augmentations if not isinstance(operator, NormalizedOperator)),
        NormalizeImage(),
        *(operator for operator in augmentations if isinstance(operator, NormalizedOperator)),
    )


def _eval_transform(training: TrainingParameters) -> tuple[TransformOp, ...]:
    parameters = training.eval_transform
    resize = ResizeImage(
        resize_short=parameters.resize_short,
        interpolation=_unless_bilinear(parameters.interpolation),
        backend=parameters.backend,
    )
    return _transform(DecodeImage(), resize, CropImage(size=parameters.size), NormalizeImage())


def _transform(*operators: Operator) -> tuple[TransformOp, ...]:
    return tuple(TransformOp(operator=operator) for operator in operators)


def _unless_bilinear(interpolation: Interpolation) -> Interpolation | None:
    """Leave the default out, as PaddleClas' own files do."""
    return None if interpolation == "bilinear" else interpolation
