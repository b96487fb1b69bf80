"""Creates the Jinja environment of all pages."""

from __future__ import annotations

import jinja2


def make_environment() -> jinja2.Environment:
    """Return the environment of the page templates, without any page's own filters."""
    return jinja2.Environment(
        loader=jinja2.PackageLoader("resnet50_pipeline.reporting"),
        # Class names and file names come from the dataset and may contain HTML.
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
