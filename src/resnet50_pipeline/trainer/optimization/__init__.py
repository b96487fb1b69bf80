"""Defines optimizers, learning rate schedules, losses, mixed precision and weight averaging.

Each section of the YAML file has a module:

    Optimizer   optimizer   Momentum or AdamW, with a schedule: Piecewise, Cosine or Linear, with warm-up
    Loss        losses      CELoss or MultiLabelLoss, including mixed images
    AMP         precision   autocast and dynamic loss scaling
    EMA         ema         averaged weights for evaluation and export

`class_weights` computes the weights for CELoss from the train list. `frozen_layers` freezes layers, for the whole run
or until a given epoch. `optimizer_state` saves and restores the state of an optimizer.
"""
