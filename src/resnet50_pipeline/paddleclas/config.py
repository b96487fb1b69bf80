"""From typed parameters to one complete PaddleClas YAML."""

from __future__ import annotations

from pathlib import Path

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
from resnet50_pipeline.parameters import (
    DatasetParameters,
    LearningRateParameters,
    LoaderParameters,
    TrainingParameters,
)
from resnet50_pipeline.training_config import (
    ArchConfig,
    CELossConfig,
    Cosine,
    DataLoaderConfig,
    DatasetConfig,
    GlobalConfig,
    InferConfig,
    LoaderConfig,
    LossConfig,
    LossItem,
    MetricConfig,
    MetricItem,
    MomentumConfig,
    Piecewise,
    PostProcessConfig,
    Regularizer,
    SamplerConfig,
    SplitConfig,
    TopkAccConfig,
    TrainingConfig,
)


def render_training_config(
    training: TrainingParameters, dataset: DatasetParameters, train_list: Path, val_list: Path
) -> TrainingConfig:
    """Return the configuration that `tools/train.py` and the native trainer read; every value is written out.

    Args:
        training: the recipe and where it runs.
        dataset: where the images are and how many classes there are.
        train_list: the prefixed list of train/, `train/<synset>/<file> <label>` a line.
        val_list: the prefixed list of val/.
    """
    eval_ops = _eval_transform(training)
    top_k = tuple(sorted({1, min(5, dataset.class_num)}))
    metrics = (MetricItem(TopkAcc=TopkAccConfig(topk=top_k)),)
    epsilon = training.label_smoothing or None
    return TrainingConfig(
        Global=GlobalConfig(
            output_dir=str(training.output_dir),
            device=training.launch.device,
            save_interval=training.save_interval,
            save_interval_steps=training.save_interval_steps,
            eval_interval=training.eval_interval,
            epochs=training.epochs,
            print_batch_step=training.print_batch_step,
            image_shape=(3, training.eval_transform.size, training.eval_transform.size),
            save_inference_dir=str(training.output_dir / "inference"),
            seed=training.seed,
            keep_checkpoints=training.keep_checkpoints,
        ),
        Arch=ArchConfig(
            name=training.arch.name,
            class_num=dataset.class_num,
            zero_init_residual=training.arch.zero_init_residual,
            batch_norm_momentum=training.arch.batch_norm_momentum,
        ),
        Loss=LossConfig(
            Train=(LossItem(CELoss=CELossConfig(epsilon=epsilon)),), Eval=(LossItem(CELoss=CELossConfig()),)
        ),
        Optimizer=MomentumConfig(
            name=training.optimizer.name,
            momentum=training.optimizer.momentum,
            lr=_schedule(training.lr),
            regularizer=Regularizer(name="L2", coeff=training.optimizer.l2_coeff),
        ),
        DataLoader=DataLoaderConfig(
            Train=_split(
                dataset,
                train_list,
                _train_transform(training),
                SamplerConfig(batch_size=training.batch_size_per_rank, shuffle=True),
                training.loader,
            ),
            Eval=_split(
                dataset,
                val_list,
                eval_ops,
                SamplerConfig(batch_size=training.eval_batch_size_per_rank, shuffle=False),
                training.loader,
            ),
        ),
        Infer=InferConfig(
            infer_imgs=str(dataset.root / "val"),
            batch_size=training.eval_batch_size_per_rank,
            transforms=(*eval_ops, TransformOp(operator=ToCHWImage())),
            PostProcess=PostProcessConfig(topk=min(5, dataset.class_num)),
        ),
        Metric=MetricConfig(Train=metrics, Eval=metrics),
    )


def _schedule(lr: LearningRateParameters) -> Piecewise | Cosine:
    if lr.name == "Piecewise":
        return Piecewise(
            name="Piecewise",
            decay_epochs=lr.decay_epochs,
            values=lr.values,
            warmup_epoch=lr.warmup_epoch,
            warmup_start_lr=lr.warmup_start_lr,
        )
    return Cosine(
        name="Cosine",
        learning_rate=lr.learning_rate,
        eta_min=lr.eta_min,
        warmup_epoch=lr.warmup_epoch,
        warmup_start_lr=lr.warmup_start_lr,
    )


def _train_transform(training: TrainingParameters) -> tuple[TransformOp, ...]:
    crop = training.train_transform
    operators: list[Operator] = [DecodeImage(), RandCropImage(size=crop.size, scale=crop.scale, ratio=crop.ratio)]
    if crop.flip:
        operators.append(RandFlipImage())
    return _transform([*operators, NormalizeImage()])


def _eval_transform(training: TrainingParameters) -> tuple[TransformOp, ...]:
    crop = training.eval_transform
    return _transform(
        [DecodeImage(), ResizeImage(resize_short=crop.resize_short), CropImage(size=crop.size), NormalizeImage()]
    )


def _transform(operators: list[Operator]) -> tuple[TransformOp, ...]:
    return tuple(TransformOp(operator=operator) for operator in operators)


def _split(
    dataset: DatasetParameters,
    list_file: Path,
    transform_ops: tuple[TransformOp, ...],
    sampler: SamplerConfig,
    loader: LoaderParameters,
) -> SplitConfig:
    return SplitConfig(
        dataset=DatasetConfig(image_root=str(dataset.root), cls_label_path=str(list_file), transform_ops=transform_ops),
        sampler=sampler,
        loader=LoaderConfig(num_workers=loader.num_workers),
    )
