"""From typed parameters to one complete PaddleClas YAML."""

from __future__ import annotations

from pathlib import Path

from resnet50_pipeline.paddleclas.config_input import render_data_loader, render_inference_transform
from resnet50_pipeline.paddleclas.config_optimization import (
    render_amp,
    render_arch,
    render_ema,
    render_loss,
    render_optimizer,
)
from resnet50_pipeline.parameters import (
    DatasetParameters,
    TrainingParameters,
)
from resnet50_pipeline.training_config import (
    GlobalConfig,
    InferConfig,
    MetricConfig,
    MetricItem,
    PostProcessConfig,
    TopkAccConfig,
    TrainingConfig,
)


def render_training_config(
    training: TrainingParameters,
    dataset: DatasetParameters,
    train_list: Path,
    val_list: Path,
    shards: Path | None = None,
) -> TrainingConfig:
    """Return the configuration that `tools/train.py` and the native trainer read; every value is written out.

    Args:
        training: the recipe and where it runs.
        dataset: where the images are and how many classes there are.
        train_list: the prefixed list of train/, `train/<synset>/<file> <label>` a line.
        val_list: the prefixed list of val/.
        shards: folder of the shard set that both lists are packed in; None reads loose files.
    """
    top_k = tuple(sorted({1, min(5, dataset.class_num)}))
    metrics = (MetricItem(TopkAcc=TopkAccConfig(topk=top_k)),)
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
            pretrained_model=None if training.pretrained_model is None else str(training.pretrained_model),
            to_static=training.to_static,
            use_dali=training.loader.use_dali,
            update_freq=training.update_freq,
            seed=training.seed,
            keep_checkpoints=training.keep_checkpoints,
        ),
        AMP=render_amp(training.amp),
        EMA=render_ema(training.ema_decay),
        Arch=render_arch(training.arch, dataset.class_num),
        Loss=render_loss(training),
        Optimizer=render_optimizer(training.optimizer, training.lr),
        DataLoader=render_data_loader(training, dataset, train_list, val_list, shards),
        Infer=InferConfig(
            infer_imgs=str(dataset.root / "val"),
            batch_size=training.eval_batch_size_per_rank,
            transforms=render_inference_transform(training),
            PostProcess=PostProcessConfig(topk=min(5, dataset.class_num)),
        ),
        Metric=MetricConfig(Train=metrics, Eval=metrics),
    )
