"""events.jsonl survives killed writers, partial reads and values that are no numbers."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from resnet50_pipeline.events import EventWriter, TrainStep, parse_event, read_events


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
