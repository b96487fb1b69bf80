"""Compares inspections of the same image at different levels."""

from __future__ import annotations

from resnet50_pipeline.imagenet.scan.inspection import Inspection

_NEED_PIXELS = ("sha256", "small")


def at_header_level(full: Inspection) -> Inspection:
    """Return the inspection without the fields that only the `full` level sets."""
    return full._replace(**{name: Inspection._field_defaults[name] for name in _NEED_PIXELS})
