"""Adds the session, stage and node to every log record."""

from __future__ import annotations

import logging
from dataclasses import dataclass


@dataclass
class LogContext:
    """The process's current session, stage and node. An attribute is "" if it does not apply.

    Attributes:
        session: Kedro's session ID, which is also the `session` tag of the MLflow run.
        stage: the current stage of the chain.
        node: the running node.
    """

    session: str = ""
    stage: str = ""
    node: str = ""


log_context = LogContext()


class ContextFilter(logging.Filter):
    """Adds the attributes `session`, `stage` and `node` to every record."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the attributes and accept the record."""
        record.session, record.stage, record.node = log_context.session, log_context.stage, log_context.node
        return True
