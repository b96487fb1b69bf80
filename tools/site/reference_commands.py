"""Generates a reference page for all commands, from their help texts and the Makefile."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import click
from models import table

from resnet50_pipeline.cli import COMMANDS

HEAD = """\
# Commands

`make` runs everything in `.venv`; `ARGS="…"` passes arguments to the command. With `.venv` activated, or `.venv/bin` on
`PATH`, you can run the `kedro` commands directly, in any folder of the project.

## make

"""
_TARGET = re.compile(r"^([a-z0-9-]+):[^#\n]*## (.*)$", re.MULTILINE)


def render_commands() -> str:
    """Return the page's Markdown."""
    targets = _TARGET.findall(Path("Makefile").read_text(encoding="utf-8"))
    lines = [HEAD, *table(("command", "effect"), [(f"`make {name}`", text) for name, text in targets]), ""]
    for command in COMMANDS:
        lines += _describe(command)
    return "\n".join(lines)


def _describe(command: click.Command) -> list[str]:
    context = click.Context(command, info_name=f"kedro {command.name}", max_content_width=100)
    arguments = [one for one in command.params if isinstance(one, click.Argument)]
    usage = " ".join([context.command_path, "[OPTIONS]", *(one.make_metavar(context) for one in arguments)])
    rows = []
    for option in command.params:
        record = option.get_help_record(context) if isinstance(option, click.Option) else None
        if record is not None:
            rows.append((f"`{record[0]}`", " ".join(record[1].split())))
    paragraphs = textwrap.dedent(command.help or "").strip()
    return [
        f"## kedro {command.name}",
        "",
        paragraphs,
        "",
        "```text",
        usage,
        "```",
        "",
        *table(("option", ""), rows),
        "",
    ]
