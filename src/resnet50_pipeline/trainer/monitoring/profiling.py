"""Profiles a few steps with `paddle.profiler`."""

from __future__ import annotations

import contextlib
import io
import logging
from pathlib import Path

from paddle.profiler import Profiler, SortedKeys, SummaryView

from resnet50_pipeline.files import replacing_file, write_text
from resnet50_pipeline.training_dir import profile_table_path, profile_trace_path

logger = logging.getLogger(__name__)


class StepProfiler:
    """Records all operators from the start of one step to the end of another, and writes a trace and a table.

    The trace is a JSON file in the Chrome trace format, for https://ui.perfetto.dev or `chrome://tracing`. The table
    lists the operators by their total time on the device.
    """

    def __init__(self, training_dir: Path, device: str, first: int, last: int) -> None:
        """Profile the steps from `first` to `last`, counted from 1 since the start of training."""
        self._dir, self._first, self._last = training_dir, first, last
        self._order = SortedKeys.CPUTotal if device == "cpu" else SortedKeys.GPUTotal
        self._profiler: Profiler | None = None

    def before_batch(self, step: int) -> None:
        """Start profiling if `step`, the step of the next batch, is one of the steps to profile."""
        if self._profiler is None and self._first <= step <= self._last:
            self._profiler = Profiler(on_trace_ready=self._write_trace)
            self._profiler.start()

    def after_step(self, step: int) -> None:
        """Mark the end of a step in the trace. After the last step to profile, write the files."""
        if self._profiler is None:
            return
        if step < self._last:
            self._profiler.step()
        else:
            self.finish()

    def finish(self) -> None:
        """Write the files if steps are being profiled. Call this after the last step of a run."""
        if self._profiler is None:
            return
        profiler, self._profiler, self._last = self._profiler, None, 0
        profiler.stop()
        table = io.StringIO()
        with contextlib.redirect_stdout(table):  # the summary can only be printed
            profiler.summary(sorted_by=self._order, op_detail=False, views=[SummaryView.OperatorView])
        write_text(profile_table_path(self._dir), table.getvalue().strip() + "\n")
        logger.info("wrote %s and %s", profile_trace_path(self._dir), profile_table_path(self._dir))

    def _write_trace(self, profiler: Profiler) -> None:
        profile_trace_path(self._dir).parent.mkdir(parents=True, exist_ok=True)
        with replacing_file(profile_trace_path(self._dir)) as temporary:
            profiler.export(str(temporary), "json")
