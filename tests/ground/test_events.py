"""events.jsonl survives killed writers, partial reads, and NaN values."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from example_events import train_step
from resnet50_pipeline.events import EventWriter, TrainStep, WarningRaised, last_event, parse_event, read_events


def step(number: int, loss: float = 0.5) -> TrainStep:
    return train_step(step=number, loss=loss)


@given(st.floats(allow_nan=True, allow_infinity=True), st.integers(0, 2**40))
def test_event_round_trips(loss: float, number: int):
    """Events are read back exactly as they were written, including NaN and infinities."""
    event = step(number, loss)
    read = parse_event(event.model_dump_json())
    assert isinstance(read, TrainStep)
    assert read.step == number
    assert read.loss == loss or (math.isnan(read.loss) and math.isnan(loss))


def test_writer_starts_new_line_after_incomplete_line(tmp_path: Path):
    """If a writer is killed in the middle of a line, the next writer starts on a new line."""
    path = tmp_path / "events.jsonl"
    path.write_text(step(1).model_dump_json() + '\n{"event": "train_')
    writer = EventWriter(path)
    writer.write(step(2))
    writer.close()
    events = read_events(path)
    assert [event.step for event in events] == [1, 2]


def test_missing_file_has_no_events(tmp_path: Path):
    """A missing file has no events."""
    assert read_events(tmp_path / "events.jsonl") == []


@pytest.mark.parametrize(
    "line",
    ['{"event": "unheard_of"}', '{"event": "warning", "message": "m", "more": 1}', "no JSON"],
)
def test_lines_of_another_schema_are_rejected(line: str):
    """A line with a different schema is an error."""
    with pytest.raises(ValidationError):
        parse_event(line)


@given(st.lists(st.integers(1, 40_000), max_size=4), st.binary(max_size=20).filter(lambda data: b"\n" not in data))
def test_last_event_is_found_at_any_line_length(tmp_path_factory, lengths: list[int], torn: bytes):
    """The last event is found for any line length, even if an incomplete line follows it."""
    path = tmp_path_factory.mktemp("events") / "events.jsonl"
    lines = [WarningRaised(time=number, message=length * "m") for number, length in enumerate(lengths)]
    path.write_bytes(b"".join(line.model_dump_json().encode() + b"\n" for line in lines) + torn)
    events = read_events(path)
    assert last_event(path) == (events[-1] if events else None)


def test_last_event_of_missing_file_is_none(tmp_path: Path):
    """A missing file has no last event."""
    assert last_event(tmp_path / "events.jsonl") is None
