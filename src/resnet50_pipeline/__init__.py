"""From ImageNet on a disk to a validated, trained, evaluated and registered ResNet50."""

__version__ = "0.1.0"
