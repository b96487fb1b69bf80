"""Griffe extension that keeps the line breaks of file samples in module docstrings."""

from __future__ import annotations

import re
from typing import Any

import griffe

_PROSE_ENDS = (".", ":", ";", "!", "?", ")")


class Samples(griffe.Extension):
    """Indents paragraphs of module docstrings that are samples, so that Markdown shows them as code."""

    def on_module(self, *, mod: griffe.Module, **_: Any) -> None:
        """Rewrite the module's docstring."""
        if mod.docstring is not None:
            first, *others = mod.docstring.value.split("\n\n")
            mod.docstring.value = "\n\n".join([first, *map(_keep_lines, others)])


def _keep_lines(paragraph: str) -> str:
    has_columns = re.search(r"\S {2,}\S", paragraph) is not None
    if paragraph.startswith("    ") or (paragraph.rstrip().endswith(_PROSE_ENDS) and not has_columns):
        return paragraph
    return "\n".join(f"    {line}" for line in paragraph.splitlines())
