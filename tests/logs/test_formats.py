"""Plain lines and JSON lines represent any log message, without secrets."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import sys
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resnet50_pipeline.logs.context import ContextFilter, log_context
from resnet50_pipeline.logs.formats import JsonFormatter, LineFormatter
from resnet50_pipeline.logs.secrets import make_mask
from resnet50_pipeline.logs.set_up import _is_useful

# Includes lone surrogates, which occur in file names that are not UTF-8.
ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=60)
ANY_VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT,
    lambda values: st.lists(values, max_size=3) | st.dictionaries(ANY_TEXT, values, max_size=3),
    max_leaves=6,
)


def record(message: str, *arguments: Any, level: int = logging.INFO, **more: Any) -> logging.LogRecord:
    """Return a log record with the additional attributes in `more`."""
    made = logging.LogRecord("resnet50_pipeline.x", level, __file__, 1, message, arguments, None)
    vars(made).update(more)
    return made


@given(ANY_TEXT, st.dictionaries(ANY_TEXT, ANY_VALUE, max_size=4))
def test_any_message_is_one_valid_json_line(message, fields):
    """Newlines, quotes, lone surrogates and NaN produce one line of ASCII that parses to the original message."""
    line = JsonFormatter(str).format(record("%s", message, fields=fields))
    assert line.isascii()
    assert line.isprintable()
    read = json.loads(line, parse_constant=pytest.fail)
    assert read["message"] == message
    assert set(fields) <= set(read)


def test_a_json_line_has_time_context_and_fields(monkeypatch):
    """A line has a time with zone, level, logger, message, session, stage and node, which fields cannot overwrite."""
    monkeypatch.setattr(log_context, "session", "2026-11-24T17.00.00.000Z")
    monkeypatch.setattr(log_context, "stage", "training")
    monkeypatch.setattr(log_context, "node", "train_network")
    logged = record("%d of %d", 3, 4, fields={"images": 3, "rate": math.inf, "level": "mine"})
    assert ContextFilter().filter(logged)
    read = json.loads(JsonFormatter(str).format(logged))
    assert datetime.fromisoformat(read.pop("time")).utcoffset() is not None
    assert read == {
        "level": "INFO",
        "logger": "resnet50_pipeline.x",
        "message": "3 of 4",
        "session": "2026-11-24T17.00.00.000Z",
        "stage": "training",
        "node": "train_network",
        "images": 3,
        "rate": "inf",
    }


def test_mismatched_arguments_follow_the_message():
    """An incorrect log call in a library neither loses the message nor prints a traceback."""
    broken = record("%d images", "three")
    assert json.loads(JsonFormatter(str).format(broken))["message"] == "%d images ('three',)"
    assert LineFormatter(str, with_traceback=False).format(broken).endswith("INFO    %d images ('three',)")


def test_a_plain_line_has_time_and_level_and_indents_further_lines():
    """Every line that is not indented starts with a time."""
    line = LineFormatter(str, with_traceback=False).format(record("first\nsecond", level=logging.WARNING))
    first, second = line.splitlines()
    assert datetime.strptime(first[:19], "%Y-%m-%d %H:%M:%S").year >= 2026
    assert first[19:] == " WARNING first"
    assert second == "  second"


def test_only_the_log_file_gets_tracebacks():
    """The file's formatter adds the traceback of an error, but the stderr formatter does not."""
    try:
        {}["a bug"]
    except KeyError:
        logged = record("failed", level=logging.ERROR, exc_info=sys.exc_info())
    assert "KeyError: 'a bug'" in LineFormatter(str, with_traceback=True).format(logged)
    assert LineFormatter(str, with_traceback=False).format(logged).endswith("ERROR   failed")
    assert "KeyError: 'a bug'" in json.loads(JsonFormatter(str).format(logged))["traceback"]


def test_a_python_warning_is_one_line():
    """The source line that the `warnings` module appends is dropped."""
    warned = record("%s", "/x/y.py:3: UserWarning: careful\n  warnings.warn('careful')\n", level=logging.WARNING)
    warned.name = "py.warnings"
    assert LineFormatter(str, with_traceback=False).format(warned).endswith("/x/y.py:3: UserWarning: careful")


def test_secret_variables_and_passwords_in_urls_are_masked():
    """Tokens are masked everywhere and passwords in any URL; other values and short values are not."""
    mask = make_mask(
        {"CANARY_TOKEN": "canary-5f3e", "MLFLOW_TRACKING_PASSWORD": "s3cr3t/+", "DB_SECRET": "abc", "HOME": "/home/me"}
    )
    assert mask("got canary-5f3e and s3cr3t/+ in /home/me, abc") == "got *** and *** in /home/me, abc"
    assert mask("postgresql://me:hunter2@db:5432/x, https://user:p%40ss@host") == (
        "postgresql://me:***@db:5432/x, https://user:***@host"
    )
    assert mask("http://127.0.0.1:5000/a@b") == "http://127.0.0.1:5000/a@b"
    assert "canary" not in JsonFormatter(mask).format(record("x", fields={"env": {"a": ["canary-5f3e"]}}))


@pytest.mark.parametrize(
    ("logger", "message", "is_kept"),
    [
        ("kedro.runner.sequential_runner", 'There are 5 nodes … --from-nodes "train_network"', True),
        ("kedro.runner.sequential_runner", 'There are 5 nodes … --from-nodes "stop_on_blocking_findings"', False),
        ("resnet50_pipeline.x", 'repeat with --from-nodes "stop_on_blocking_findings"', True),
    ],
)
def test_advice_to_start_at_the_node_that_reads_the_findings_is_dropped(logger: str, message: str, is_kept: bool):
    """Following Kedro's advice after a blocking finding would only lead to the same findings again."""
    advice = record(message)
    advice.name = logger
    assert _is_useful(advice) == is_kept


@pytest.mark.parametrize(
    ("message", "notes", "is_kept"),
    [
        ("a rank was killed; resume with\n  kedro run --params training.resume=auto", [], False),
        ("stopped by SIGINT", ["resume it with\n  kedro run --params training.resume=true"], False),
        ("division by zero", [], True),
    ],
)
def test_advice_of_kedro_is_dropped_if_the_error_contains_a_command(message: str, notes: list[str], is_kept: bool):
    """Kedro's advice is dropped if the error itself contains a command to run next."""
    advice = record('There are 5 nodes … --from-nodes "train_network"')
    advice.name = "kedro.runner.sequential_runner"
    kept: list[bool] = []
    error = RuntimeError(message)
    for note in notes:
        error.add_note(note)
    with contextlib.suppress(RuntimeError), contextlib.ExitStack() as stack:
        stack.callback(lambda: kept.append(_is_useful(advice)))
        raise error
    assert kept == [is_kept]
