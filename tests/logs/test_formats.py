"""Plain lines and JSON lines hold whatever is logged, without secrets."""

from __future__ import annotations

import json
import logging
import math
import sys
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resnet50_pipeline.logs.formats import JsonFormatter, LineFormatter
from resnet50_pipeline.logs.place import PlaceFilter, place
from resnet50_pipeline.logs.secrets import make_mask

# Lone surrogates too: a file name that is not UTF-8 has them.
ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=60)
ANY_VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT,
    lambda values: st.lists(values, max_size=3) | st.dictionaries(ANY_TEXT, values, max_size=3),
    max_leaves=6,
)


def record(message: str, *arguments: Any, level: int = logging.INFO, **more: Any) -> logging.LogRecord:
    """Return a log record as handlers get it."""
    made = logging.LogRecord("resnet50_pipeline.x", level, __file__, 1, message, arguments, None)
    vars(made).update(more)
    return made


@given(ANY_TEXT, st.dictionaries(ANY_TEXT, ANY_VALUE, max_size=4))
def test_any_message_is_one_valid_json_line(message, fields):
    """Newlines, brackets, quotes, lone surrogates, NaN: one line of ASCII, which reads back as what was logged."""
    line = JsonFormatter(str).format(record("%s", message, fields=fields))
    assert line.isascii()
    assert line.isprintable()
    read = json.loads(line, parse_constant=pytest.fail)
    assert read["message"] == message
    assert set(fields) <= set(read)


def test_a_json_line_says_when_where_and_how_much(monkeypatch):
    """Time with its zone, level, logger, message, session, stage and node; fields never take their place."""
    monkeypatch.setattr(place, "session", "2026-11-24T17.00.00.000Z")
    monkeypatch.setattr(place, "stage", "training")
    monkeypatch.setattr(place, "node", "train_network")
    logged = record("%d of %d", 3, 4, fields={"images": 3, "rate": math.inf, "level": "mine"})
    assert PlaceFilter().filter(logged)
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


def test_arguments_that_do_not_fit_are_shown_beside_the_message():
    """A mistake in some library's log call costs nobody the line, and prints no traceback."""
    broken = record("%d images", "three")
    assert json.loads(JsonFormatter(str).format(broken))["message"] == "%d images ('three',)"
    assert LineFormatter(str, with_traceback=False).format(broken).endswith("INFO    %d images ('three',)")


def test_a_plain_line_has_time_and_level_and_indents_what_follows():
    """Every line that begins at the margin begins with a time."""
    line = LineFormatter(str, with_traceback=False).format(record("first\nsecond", level=logging.WARNING))
    first, second = line.splitlines()
    assert datetime.strptime(first[:19], "%Y-%m-%d %H:%M:%S").year >= 2026
    assert first[19:] == " WARNING first"
    assert second == "  second"


def test_tracebacks_are_for_the_file():
    """The file's formatter adds the traceback of an error, the stream's does not."""
    try:
        {}["a bug"]
    except KeyError:
        logged = record("failed", level=logging.ERROR, exc_info=sys.exc_info())
    assert "KeyError: 'a bug'" in LineFormatter(str, with_traceback=True).format(logged)
    assert LineFormatter(str, with_traceback=False).format(logged).endswith("ERROR   failed")
    assert "KeyError: 'a bug'" in json.loads(JsonFormatter(str).format(logged))["traceback"]


def test_a_warning_of_python_is_one_line():
    """Without the line of source code that the library `warnings` puts below."""
    warned = record("%s", "/x/y.py:3: UserWarning: careful\n  warnings.warn('careful')\n", level=logging.WARNING)
    warned.name = "py.warnings"
    assert LineFormatter(str, with_traceback=False).format(warned).endswith("/x/y.py:3: UserWarning: careful")


def test_secrets_of_the_environment_and_passwords_of_addresses_are_masked():
    """A token is masked wherever it stands, a password in any address; other values, and short ones, are not."""
    mask = make_mask(
        {"CANARY_TOKEN": "canary-5f3e", "MLFLOW_TRACKING_PASSWORD": "s3cr3t/+", "DB_SECRET": "abc", "HOME": "/home/me"}
    )
    assert mask("got canary-5f3e and s3cr3t/+ in /home/me, abc") == "got *** and *** in /home/me, abc"
    assert mask("postgresql://me:hunter2@db:5432/x, https://user:p%40ss@host") == (
        "postgresql://me:***@db:5432/x, https://user:***@host"
    )
    assert mask("http://127.0.0.1:5000/a@b") == "http://127.0.0.1:5000/a@b"
    assert "canary" not in JsonFormatter(mask).format(record("x", fields={"env": {"a": ["canary-5f3e"]}}))
