"""The table fits its terminal, whatever is in it."""

from __future__ import annotations

import pytest

from resnet50_pipeline.exceptions import PreflightError
from resnet50_pipeline.paddleclas.launch import LaunchCommand
from resnet50_pipeline.preflight.findings import Finding, require_no_blocking, show_bytes
from resnet50_pipeline.preflight.report import render_command, render_table, shown_environment, summarize

FINDINGS = [
    Finding("Python", "ok", "3.11.2", "3.11"),
    Finding("processors", "warning", "2", "20 (ranks x (threads + workers))", "lower training.loader.num_workers"),
    Finding("data set", "blocking", "/a/very/long/path" * 5 + " is not there", "train/ and val/", "set dataset.root"),
]


def test_the_table_shows_all_that_was_found():
    """Symbol, check, found, needed, and the remedy below what is not fine."""
    table = [line for _, line in render_table(FINDINGS[:2], 80)]
    assert table == [
        "  check       found   needed",
        "✓ Python      3.11.2  3.11",
        "! processors  2       20 (ranks x (threads + workers))",
        "              → lower training.loader.num_workers",
    ]


@pytest.mark.parametrize("width", [60, 80, 100, 120])
def test_no_line_is_longer_than_the_terminal(width):
    """Long paths and remedies are wrapped, and nothing of them is lost."""
    lines = [line for _, line in render_table(FINDINGS, width)]
    assert max(map(len, lines)) <= width
    assert "/a/very/long/path" * 2 in "".join(line.split("  ")[0] + "".join(line.split()) for line in lines)


def test_the_first_line_of_a_finding_carries_its_status():
    """For the colour of the symbol; head and continued lines have none."""
    statuses = [status for status, _ in render_table(FINDINGS[:2], 80)]
    assert statuses == [None, "ok", "warning", None]


def test_the_counts_are_words():
    """One is one, none is no."""
    assert summarize(FINDINGS) == "1 blocking finding, 1 warning, 1 check passed"
    assert summarize(FINDINGS[:1] * 2) == "no blocking findings, no warnings, 2 checks passed"


def test_a_command_is_what_a_shell_takes():
    """On one line where it fits, else a group a line, with spaces quoted."""
    command = LaunchCommand(("py", "-u", "-m", "paddle.distributed.launch", "--gpus=0", "--log_dir=a b", "p", "x"), {})
    assert render_command(command, 120) == ["  py -u -m paddle.distributed.launch --gpus=0 '--log_dir=a b' p x"]
    assert render_command(command, 60) == [
        "  py -u -m paddle.distributed.launch --gpus=0 \\",
        "    '--log_dir=a b' \\",
        "    p \\",
        "    x",
    ]


def test_what_looks_like_a_secret_is_not_shown():
    """The ranks may be given a token by name in training.launch.environment; a screen is not."""
    given = {"HF_TOKEN": "canary", "DB_PASSWORD": "canary", "API_KEY": "canary", "FLAGS_x": "1"}
    shown = shown_environment(LaunchCommand((), given))
    assert "canary" not in shown.values()
    assert shown["FLAGS_x"] == "1"


def test_only_blocking_findings_refuse_and_all_of_them_are_named():
    """A warning lets the run start."""
    require_no_blocking(FINDINGS[:2])
    with pytest.raises(PreflightError) as caught:
        require_no_blocking([*FINDINGS, FINDINGS[2]])
    assert len(caught.value.problems) == 2
    assert "→ set dataset.root" in str(caught.value)


def test_sizes_are_readable():
    """Three digits at most."""
    assert [show_bytes(size) for size in (12, 64 * 2**20, 1.25 * 2**30, 3 * 2**40)] == [
        "12 B",
        "64 MiB",
        "1.2 GiB",
        "3.0 TiB",
    ]
