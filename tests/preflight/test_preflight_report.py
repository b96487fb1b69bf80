"""The report of `kedro preflight`: table, counts, command and environment."""

from __future__ import annotations

import pytest

from resnet50_pipeline.exceptions import PreflightError
from resnet50_pipeline.paddleclas.launch.command import LaunchCommand
from resnet50_pipeline.preflight.findings import Finding, require_no_blocking
from resnet50_pipeline.preflight.report import render_command, render_table, shown_environment, summarize

FINDINGS = [
    Finding("Python", "ok", "3.11.2", "3.11"),
    Finding("processors", "warning", "2", "20 (ranks x (threads + workers))", "lower training.loader.num_workers"),
    Finding("dataset", "blocking", "/a/very/long/path" * 5 + " does not exist", "train/ and val/", "set dataset.root"),
]


def test_the_table_has_symbols_columns_and_remedies():
    """A row shows a symbol, the check, the state found and the state needed, with any remedy below it."""
    table = [line for _, line in render_table(FINDINGS[:2], 80)]
    assert table == [
        "  check       found   needed",
        "✓ Python      3.11.2  3.11",
        "! processors  2       20 (ranks x (threads + workers))",
        "              → lower training.loader.num_workers",
    ]


@pytest.mark.parametrize("width", [60, 80, 100, 120])
def test_no_line_is_longer_than_the_terminal(width):
    """Long paths and remedies are wrapped without losing characters."""
    lines = [line for _, line in render_table(FINDINGS, width)]
    assert max(map(len, lines)) <= width
    assert "/a/very/long/path" * 2 in "".join(line.split("  ")[0] + "".join(line.split()) for line in lines)


def test_only_the_first_line_of_a_finding_has_a_status():
    """The status sets the color of the symbol, and headings and continuation lines have no symbol."""
    statuses = [status for status, _ in render_table(FINDINGS[:2], 80)]
    assert statuses == [None, "ok", "warning", None]


def test_the_counts_use_singular_and_plural():
    """A count of one is singular, and zero is written as "no"."""
    assert summarize(FINDINGS) == "1 blocking finding, 1 warning, 1 check passed"
    assert summarize(FINDINGS[:1] * 2) == "no blocking findings, no warnings, 2 checks passed"


def test_a_command_can_be_pasted_into_a_shell():
    """The launch command is on one line, however long it is, and arguments with spaces are quoted."""
    command = LaunchCommand(("py", "-u", "-m", "paddle.distributed.launch", "--gpus=0", "--log_dir=a b", "p", "x"), {})
    assert render_command(command) == "  py -u -m paddle.distributed.launch --gpus=0 '--log_dir=a b' p x"


def test_commands_in_remedies_are_not_broken():
    """A command in a remedy stays on one line, even if it is longer than the terminal is wide."""
    command = "`kedro run --env imagenet --params dataset.root=/data/imagenet,training.resume=false`"
    findings = [Finding("dataset", "blocking", "missing", "train/", f"the dataset is missing, so run {command} again")]
    lines = [line for _, line in render_table(findings, 60)]
    assert [line.strip() for line in lines[2:]] == ["→ the dataset is missing, so run", command, "again"]


def test_the_values_of_secret_variables_are_hidden():
    """The ranks may receive a token through training.launch.environment, but the report must not show it."""
    given = {"HF_TOKEN": "canary", "DB_PASSWORD": "canary", "API_KEY": "canary", "FLAGS_x": "1"}
    shown = shown_environment(LaunchCommand((), given))
    assert "canary" not in shown.values()
    assert shown["FLAGS_x"] == "1"


def test_the_error_lists_all_blocking_findings():
    """The error lists only blocking findings. Warnings alone do not raise an error."""
    require_no_blocking(FINDINGS[:2])
    with pytest.raises(PreflightError) as caught:
        require_no_blocking([*FINDINGS, FINDINGS[2]])
    assert len(caught.value.problems) == 2
    assert "→ set dataset.root" in str(caught.value)
