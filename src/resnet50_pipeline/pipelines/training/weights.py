"""Finds the weights that a training run starts from, as configured in `training.pretrained_model`."""

from __future__ import annotations

from resnet50_pipeline.parameters import TrainingParameters, is_registered_reference


def fetch_pretrained_model(training: TrainingParameters) -> TrainingParameters:
    """Return the parameters with a local path instead of a registered version in `pretrained_model`.

    Raises:
        TrackingError: if the version does not exist, or MLflow does not respond.
    """
    if training.pretrained_model is None or not is_registered_reference(str(training.pretrained_model)):
        return training
    from resnet50_pipeline.tracking.fetch import DOWNLOADS, fetch_model
    from resnet50_pipeline.tracking.runs import require_current_run

    fetched = fetch_model(require_current_run().store, str(training.pretrained_model), DOWNLOADS)
    return training.model_copy(update={"pretrained_model": fetched.inference_model.absolute()})
