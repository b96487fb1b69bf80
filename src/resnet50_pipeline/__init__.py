"""Validates ImageNet, and trains, evaluates and registers ResNet50."""

from resnet50_pipeline.telemetry import turn_off_telemetry

__version__ = "0.1.0"

turn_off_telemetry()
