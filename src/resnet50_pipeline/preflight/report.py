"""Renders the result of `kedro preflight` as a table that fits the terminal, or as a JSON object."""

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
_COMMAND = re.compile(r"`[^`]+`")
_NO_BREAK = "\x1f"
_INDENT = "  "
_MIN_WIDTH, _MAX_WIDTH = 60, 120


def render_table(findings: Sequence[Finding], width: int) -> list[tuple[Status | None, str]]:
    """Return the lines of the table, each with the status of its finding (None for headings and continuation lines).

    The columns are the check, the actual state and the required state. Remedies follow on separate lines.

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
            lines += [(None, line) for line in _wrap_remedy(one.remedy, width, margin)]
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


def render_command(command: LaunchCommand) -> str:
    """Return the launch command for a shell, on one line."""
    return _INDENT + shlex.join(command.arguments)


def shown_environment(command: LaunchCommand) -> dict[str, str]:
    """Return the ranks' environment, keyed by name, with the values of possible secrets hidden."""
    return {name: "…" if _SECRET.search(name) else value for name, value in sorted(command.environment.items())}


def render_environment(command: LaunchCommand) -> list[str]:
    """Return one line per environment variable."""
    return [f"{_INDENT}{name}={shlex.quote(value)}" for name, value in shown_environment(command).items()]


def render_start(start: Start) -> list[tuple[str, list[str]]]:
    """Return the title and lines of each section: the command, the environment and the YAML file."""
    command = start.command
    where = "" if command.working_dir is None else f", in {command.working_dir}"
    return [
        (f"Command{where}", [render_command(command)]),
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


def _wrap_remedy(remedy: str, width: int, margin: str) -> list[str]:
    """Wrap a remedy, but keep commands in backticks on one line, so that the commands can be copied."""
    glued = _COMMAND.sub(lambda match: match[0].replace(" ", _NO_BREAK), remedy)
    lines = textwrap.wrap(
        glued,
        width,
        initial_indent=f"{margin}→ ",
        subsequent_indent=f"{margin}  ",
        break_on_hyphens=False,
        break_long_words="`" not in remedy,
    )
    return [line.replace(_NO_BREAK, " ") for line in lines]


def _wrap(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, break_on_hyphens=False) or [""]
