"""Defines `logs`: the format of logs, the log files and the progress lines."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from resnet50_pipeline.frozen_model import FiniteModel


class LogParameters(FiniteModel):
    """`logs`: the format of logs, the log files and the progress lines. `kedro run` reads this group first."""

    format: Literal["text", "json"] = Field(
        default="text",
        description="Format of the console output. text: a live view in a terminal, and plain lines elsewhere. json: "
        "one JSON object per line.",
    )
    directory: Path | None = Field(
        default=None,
        description="Folder for log files, one per run. null: do not write log files. Defaults to 09_logs in the "
        "workspace if the key is missing.",
    )
    keep_files: int = Field(default=50, ge=1, description="Number of log files to keep. Older ones are deleted.")
    progress_interval_seconds: float = Field(
        default=10.0, ge=0.1, description="Minimum time between two progress lines for the same operation."
    )
