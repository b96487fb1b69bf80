"""Each complete line of a growing file is read once."""

from __future__ import annotations

from pathlib import Path

from resnet50_pipeline.events import EventWriter, WarningRaised, parse_event
from resnet50_pipeline.tailing import Tail, read_complete_lines


def test_incomplete_line_is_read_once_complete(tmp_path: Path):
    """A line without a newline is neither lost nor read twice."""
    path = tmp_path / "events.jsonl"
    tail = Tail(path)
    assert tail.read_lines() == []
    path.write_bytes(b"one\ntw")
    assert tail.read_lines() == [b"one\n"]
    with path.open("ab") as file:
        file.write(b"o\nthree\n")
    assert tail.read_lines() == [b"two\n", b"three\n"]
    assert tail.read_lines() == []


def test_existing_lines_can_be_skipped(tmp_path: Path):
    """With skip_existing, only lines appended later are read."""
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"one\n")
    tail = Tail(path, skip_existing=True)
    with path.open("ab") as file:
        file.write(b"two\n")
    assert tail.read_lines() == [b"two\n"]


def test_line_that_a_killed_writer_left_incomplete_is_not_skipped(tmp_path: Path):
    """After a full disk or a power failure, the next writer removes the incomplete line, and its events are read."""
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"event": "one"}\n{"event": "train_st')
    tail = Tail(path, skip_existing=True)
    writer = EventWriter(path)
    for message in ("two", "three"):
        writer.write(WarningRaised(message=message))
    writer.close()
    events = [parse_event(line) for line in tail.read_lines()]
    assert [event.message for event in events if isinstance(event, WarningRaised)] == ["two", "three"]


def test_replaced_file_is_read_from_its_start(tmp_path: Path):
    """A replaced file is read from its start, even if it is longer than the old one."""
    path, new = tmp_path / "events.jsonl", tmp_path / "new"
    path.write_bytes(b"one\n")
    tail = Tail(path, skip_existing=True)
    new.write_bytes(b"another\nlonger\n")
    new.replace(path)
    assert tail.read_lines() == [b"another\n", b"longer\n"]


def test_partial_read_ends_at_a_line_end(tmp_path: Path):
    """Reading stops after the line that reaches the given size, and the next read continues from there."""
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"one\ntwo\nthree\n")
    assert read_complete_lines(path, max_bytes=5) == [b"one\n", b"two\n"]
    assert read_complete_lines(path, start_byte=8) == [b"three\n"]
