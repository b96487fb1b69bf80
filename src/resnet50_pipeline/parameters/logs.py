"""Defines `logs`: the format of logs, the log files and the progress lines."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

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
        description="Folder for log files, one per run. null: no log files. If the key is missing: 09_logs in the "
        "workspace.",
    )
    metrics_file: Path | None = Field(
        default=None,
        description="File for the latest values of a training run, for node_exporter's textfile collector: "
        "`<folder of the collector>/<name>.prom`. null: no file.",
    )
    keep_files: int = Field(default=50, ge=1, description="Number of log files to keep. Older log files are deleted.")
    progress_interval_seconds: float = Field(
        default=10.0, ge=0.1, description="Minimum time between two progress lines for the same operation."
    )

    @field_validator("metrics_file")
    @classmethod
    def _require_prom(cls, path: Path | None) -> Path | None:
        if path is not None and path.suffix != ".prom":
            raise ValueError(f"metrics_file is {path}, but node_exporter reads only *.prom; change the suffix to .prom")
        return path
