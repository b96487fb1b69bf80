"""events.jsonl survives killed writers, partial reads and values that are no numbers."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from resnet50_pipeline.events import EventWriter, TrainStep, WarningRaised, last_event, parse_event, read_events


def step(number: int, loss: float = 0.5) -> TrainStep:
    return TrainStep(
        step=number,
        epoch=1,
        loss=loss,
        top1=0.1,
        learning_rate=0.1,
        images_per_second=10.0,
        reader_seconds=0.01,
        batch_seconds=0.1,
    )


@given(st.floats(allow_nan=True, allow_infinity=True), st.integers(0, 2**40))
def test_event_round_trips(loss: float, number: int):
    """What is written is what is read, NaN and infinities included."""
    event = step(number, loss)
    read = parse_event(event.model_dump_json())
    assert isinstance(read, TrainStep)
    assert read.step == number
    assert read.loss == loss or (math.isnan(read.loss) and math.isnan(loss))


def test_reader_leaves_an_unfinished_line_for_later(tmp_path: Path):
    """A line without its newline is neither lost nor read twice."""
    path = tmp_path / "events.jsonl"
    line = step(1).model_dump_json()
    path.write_text(line + "\n" + line[:20])
    events, position = read_events(path)
    assert [event.step for event in events] == [1]
    path.write_text(line + "\n" + line + "\n")
    events, position = read_events(path, position)
    assert len(events) == 1
    assert position == path.stat().st_size


def test_writer_drops_the_torn_line_of_a_killed_one(tmp_path: Path):
    """After a writer was killed inside a line, the next one's first event stands on a line of its own."""
    path = tmp_path / "events.jsonl"
    path.write_text(step(1).model_dump_json() + '\n{"event": "train_')
    writer = EventWriter(path)
    writer.write(step(2))
    writer.close()
    events, _ = read_events(path)
    assert [event.step for event in events] == [1, 2]


def test_missing_file_has_no_events(tmp_path: Path):
    """A run that has not started yet has no events."""
    assert read_events(tmp_path / "events.jsonl") == ([], 0)


@pytest.mark.parametrize(
    "line",
    ['{"event": "unheard_of"}', '{"event": "failed", "step": 1, "error": "E", "message": "m", "more": 1}', "no JSON"],
)
def test_foreign_lines_are_refused(line: str):
    """A line of another schema is an error, not a guess."""
    with pytest.raises(ValidationError):
        parse_event(line)


@given(st.lists(st.integers(1, 40_000), max_size=4), st.binary(max_size=20).filter(lambda data: b"\n" not in data))
def test_last_event_is_the_last_that_reading_all_gives(tmp_path_factory, lengths: list[int], torn: bytes):
    """However long the lines are, and whatever a killed writer left behind them."""
    path = tmp_path_factory.mktemp("events") / "events.jsonl"
    lines = [WarningRaised(time=number, message=length * "m") for number, length in enumerate(lengths)]
    path.write_bytes(b"".join(line.model_dump_json().encode() + b"\n" for line in lines) + torn)
    events, _ = read_events(path)
    assert last_event(path) == (events[-1] if events else None)


def test_last_event_of_no_file_is_none(tmp_path: Path):
    """A training that never started has none."""
    assert last_event(tmp_path / "events.jsonl") is None
