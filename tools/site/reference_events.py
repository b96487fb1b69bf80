"""The page of the events that a training writes, from `events.py`."""

from __future__ import annotations

import typing

from models import describe_type, table

from resnet50_pipeline import events

HEAD = """\
# Events

`events.jsonl` in a training's folder has one JSON object a line, written by rank 0 with one `write` each and never
changed. A last line without its newline is not whole yet. `resnet50_pipeline.events.read_events` reads it; progress,
MLflow's curves, plots and tables are all made from it. Schema version {version}:

```json
{example}
```

Every event has `event` (its kind), `schema_version` and `time` (seconds since the Unix epoch). Fractions are 0..1,
steps and epochs count from 1.
"""
EXAMPLE = events.TrainStep(
    time=1764000000.0, step=5, epoch=1, loss=2.301, top1=0.125, learning_rate=0.001, images_per_second=33.5,
    reader_seconds=0.002, batch_seconds=0.95,
)  # fmt: skip


def render_events() -> str:
    """Return the page's Markdown."""
    lines = [HEAD.format(version=events.SCHEMA_VERSION, example=EXAMPLE.model_dump_json())]
    union, *_ = typing.get_args(events.AnyEvent)
    for model in typing.get_args(union):
        kind = model.model_fields["event"].default
        own = [name for name in model.__annotations__ if name != "event"]
        rows = [
            (f"`{name}`", describe_type(field.annotation), field.description or "")
            for name, field in model.model_fields.items()
            if name in own
        ]
        lines += [f"## `{kind}`", "", (model.__doc__ or "").strip(), "", *table(("field", "type", ""), rows), ""]
    return "\n".join(lines)
