"""Generates the page that lists the events of a training run, from `events.py`."""

from __future__ import annotations

import typing

from models import describe_type, table

from resnet50_pipeline import events

HEAD = """\
# Events

`events.jsonl` in the training folder contains one JSON object per line. Rank 0 appends each line with a single `write`
and never changes it; a last line without a newline is incomplete. Progress, MLflow curves, plots and tables are all
derived from this file. To read it, use `resnet50_pipeline.events.read_events`. An example in schema version {version}:

```json
{example}
```

Every event contains `event` (its kind), `schema_version` and `time` (seconds since the Unix epoch). Fractions are from
0 to 1; steps and epochs start at 1.
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
