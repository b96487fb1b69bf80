r"""Formats log records as plain lines or as JSON lines.

2026-11-24 17:00:00 INFO    packing images: 200 of 1000 images, 20 images/s, 0:40 left
{"time": "2026-11-24T17:00:00.123+00:00", "level": "INFO", "logger": "resnet50_pipeline.progress", "message": …}
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable
from datetime import datetime
from typing import Any

LINE = "%(asctime)s %(levelname)-7s %(message)s"
TIME = "%Y-%m-%d %H:%M:%S"
# Keys in the `extra` argument of a log call.
FIELDS = "fields"
"""Mapping of additional numbers and strings to include in the JSON line."""
SHOWN_ELSEWHERE = "shown_elsewhere"
"""Where else the message is shown, in another form. `set_up.py` defines the values."""
_PYTHON_WARNINGS = "py.warnings"
_INDENT = "  "

Mask = Callable[[str], str]


class LineFormatter(logging.Formatter):
    """Formats a record as one line. Further lines of a multi-line message are indented."""

    def __init__(self, mask: Mask, *, with_traceback: bool, layout: str = LINE) -> None:
        super().__init__(layout, TIME)
        self._mask, self._with_traceback = mask, with_traceback

    def format(self, record: logging.LogRecord) -> str:
        """Format a record. The result has several lines if the message or the traceback has several lines."""
        message = message_of(record)
        if record.name == _PYTHON_WARNINGS and not self._with_traceback:
            message = message.splitlines()[0]  # keep `file:line: Category: text`, and drop the source line
        record.message, record.asctime = message.replace("\n", f"\n{_INDENT}"), self.formatTime(record, TIME)
        lines = self.formatMessage(record)
        if self._with_traceback and record.exc_info:
            lines += f"\n{self.formatException(record.exc_info)}"
        return self._mask(lines)


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of ASCII: a JSON object with the time, level, message, context and fields."""

    def __init__(self, mask: Mask) -> None:
        super().__init__()
        self._mask = mask

    def format(self, record: logging.LogRecord) -> str:
        """Format a record as a JSON object on one line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created).astimezone().isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": message_of(record),
            "session": getattr(record, "session", ""),
            "stage": getattr(record, "stage", ""),
            "node": getattr(record, "node", ""),
        }
        # Standard keys take precedence over fields with the same name.
        line = {**getattr(record, FIELDS, {}), **line}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(self._masked(line), allow_nan=False, default=str)

    def _masked(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._mask(value)
        if isinstance(value, float) and not math.isfinite(value):
            return str(value)  # JSON has no NaN or infinity
        if isinstance(value, dict):
            return {str(key): self._masked(one) for key, one in value.items()}
        return [self._masked(one) for one in value] if isinstance(value, list | tuple) else value


def message_of(record: logging.LogRecord) -> str:
    """Format the message with its arguments. If formatting fails, append the arguments to the unformatted message."""
    try:
        return record.getMessage()
    except (TypeError, ValueError, KeyError):
        return f"{record.msg} {record.args!r}"
