"""Renders the result of `kedro preflight` as a table that fits the terminal, or as one JSON object."""

from __future__ import annotations

import json
import re
import shlex
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from resnet50_pipeline.paddleclas.launch.command import LaunchCommand
from resnet50_pipeline.preflight.findings import Finding, Status, blocking
from resnet50_pipeline.preflight.plan import RunPlan, Start
from resnet50_pipeline.text import pluralize

SYMBOLS: Mapping[Status, str] = {"ok": "✓", "warning": "!", "blocking": "✗"}
_SECRET = re.compile(r"TOKEN|SECRET|PASSW|CREDENTIAL|(^|_)KEY|AUTH", re.IGNORECASE)
_INDENT = "  "
_MIN_WIDTH, _MAX_WIDTH = 60, 120


def render_table(findings: Sequence[Finding], width: int) -> list[tuple[Status | None, str]]:
    """Return the lines of the table, each with the status of its finding (None for headings and continuation lines).

    The columns are the check, the state found and the state needed. A remedy follows on separate lines.

    Args:
        findings: findings in the order of the rows.
        width: number of terminal columns, clamped to 60..120.
    """
    width = min(max(width, _MIN_WIDTH), _MAX_WIDTH)
    name = max(len(finding.check) for finding in findings)
    rest = width - len("✓ ") - name - 2 * len(_INDENT)
    found = max(min(max(len(finding.found) for finding in findings), rest * 11 // 20), 5)
    needed = rest - found
    head = f"{_INDENT}{'check':<{name}}{_INDENT}{'found':<{found}}{_INDENT}needed"
    lines: list[tuple[Status | None, str]] = [(None, head)]
    for one in findings:
        cells = (_wrap(one.found, found), _wrap(one.needed, needed))
        for number in range(max(map(len, cells))):
            left, right = (cell[number] if number < len(cell) else "" for cell in cells)
            symbol, title = (SYMBOLS[one.status], one.check) if number == 0 else (" ", "")
            text = f"{symbol} {title:<{name}}{_INDENT}{left:<{found}}{_INDENT}{right}".rstrip()
            lines.append((one.status if number == 0 else None, text))
        if one.remedy:
            margin = " " * (2 + name + 2)
            wrapped = textwrap.wrap(
                one.remedy, width, initial_indent=f"{margin}→ ", subsequent_indent=f"{margin}  ", break_on_hyphens=False
            )
            lines += [(None, line) for line in wrapped]
    return lines


def describe(plan: RunPlan) -> str:
    """Return two lines: `ResNet50, 120 epochs on gpu 0,1,2,3`, and how a step is divided among the ranks."""
    training = plan.training
    devices = ",".join(map(str, training.launch.devices))
    engine = "" if training.engine == "native" else ", with the PaddleClas engine"
    return (
        f"{training.arch.name}, {pluralize(training.epochs, 'epoch')} on {training.launch.device} {devices}{engine}\n"
        f"{training.describe_step()}"
    )


def summarize(findings: Sequence[Finding]) -> str:
    """Summarize the findings in one line: `1 blocking finding, no warnings, 12 checks passed`."""
    counts = {status: sum(one.status == status for one in findings) for status in SYMBOLS}
    return ", ".join(
        (
            pluralize(counts["blocking"], "blocking finding"),
            pluralize(counts["warning"], "warning"),
            f"{pluralize(counts['ok'], 'check')} passed",
        )
    )


def render_command(command: LaunchCommand, width: int) -> list[str]:
    """Return the launch command for a shell, with one group of arguments per line if it is longer than `width`."""
    words = [shlex.quote(argument) for argument in command.arguments]
    whole = " ".join(words)
    if len(_INDENT + whole) <= width:
        return [_INDENT + whole]
    # python -u -m paddle.distributed.launch --gpus=… | --log_dir=… | program | train --config …
    groups = [" ".join(words[:5]), *words[5:7], " ".join(words[7:])]
    lines = [f"{_INDENT if number == 0 else 2 * _INDENT}{group}" for number, group in enumerate(groups) if group]
    return [f"{line} \\" for line in lines[:-1]] + [lines[-1]]


def shown_environment(command: LaunchCommand) -> dict[str, str]:
    """Return the ranks' environment, keyed by name, without the values of variables that may be secrets."""
    return {name: "…" if _SECRET.search(name) else value for name, value in sorted(command.environment.items())}


def render_environment(command: LaunchCommand) -> list[str]:
    """Return one line per environment variable."""
    return [f"{_INDENT}{name}={shlex.quote(value)}" for name, value in shown_environment(command).items()]


def render_start(start: Start, width: int) -> list[tuple[str, list[str]]]:
    """Return the title and lines of each section: the command, the environment and the YAML file."""
    command = start.command
    where = "" if command.working_dir is None else f", in {command.working_dir}"
    return [
        (f"Command{where}", render_command(command, width)),
        ("Complete environment of the command", render_environment(command)),
        (start.config_name, [f"{_INDENT}{line}" for line in start.config_text.splitlines()]),
    ]


def as_json(findings: Sequence[Finding], start: Start | None) -> str:
    """Return one JSON object with the keys `ok`, `findings`, `command`, `environment`, `working_dir` and `config`.

    The last four keys are absent if `start` is None.
    """
    report: dict[str, Any] = {"ok": not blocking(findings), "findings": [vars(finding) for finding in findings]}
    if start is not None:
        command = start.command
        report |= {
            "command": list(command.arguments),
            "environment": shown_environment(command),
            "working_dir": None if command.working_dir is None else str(command.working_dir),
            "config": yaml.safe_load(start.config_text),
        }
    return json.dumps(report, indent=2, ensure_ascii=False)


def _wrap(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, break_on_hyphens=False) or [""]
