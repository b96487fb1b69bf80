"""`logs`: how a run tells what it does."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from resnet50_pipeline.parameters.base import ParameterModel


class LogParameters(ParameterModel):
    """`logs`: how a run tells what it does; read by `kedro run` before anything else."""

    format: Literal["text", "json"] = Field(
        default="text",
        description="text: a live view in a terminal, plain lines elsewhere; json: one JSON object a line, everywhere.",
    )
    directory: Path | None = Field(
        default=None, description="Folder of the log files, one a run; null: none is written."
    )
    keep_files: int = Field(default=50, ge=1, description="Log files to keep; the oldest others are deleted.")
    progress_interval_seconds: float = Field(
        default=10.0, ge=0.1, description="Least time between two lines about the progress of the same work."
    )
