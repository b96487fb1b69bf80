"""Where a process is when it logs something: its session, stage and node, which every record is given."""

from __future__ import annotations

import logging
from dataclasses import dataclass


@dataclass
class Place:
    """Where the run of this process is; "" for what is not known, or not now.

    Attributes:
        session: Kedro's id of the session, also the tag `session` of the MLflow run.
        stage: of the chain.
        node: that runs.
    """

    session: str = ""
    stage: str = ""
    node: str = ""


place = Place()


class PlaceFilter(logging.Filter):
    """Gives every record that passes the attributes session, stage and node, as they are at this moment."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let the record pass."""
        record.session, record.stage, record.node = place.session, place.stage, place.node
        return True
