"""Logs unreadable training images, counts the images of all ranks together, and enforces the limit per epoch."""

from __future__ import annotations

import logging

from resnet50_pipeline.exceptions import MAX_PROBLEMS_SHOWN, ImageDecodeError
from resnet50_pipeline.trainer.data.batches import Batch
from resnet50_pipeline.trainer.meters import Totals

logger = logging.getLogger(__name__)


class SkippedImages:
    """The images that a rank has skipped since the last report, and the limit per epoch for all ranks together.

    The meters hold the counts, and checkpoint sets include the meters, so a run that resumes within an epoch keeps
    counting.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._problems: list[str] = []

    def log(self, batch: Batch) -> None:
        """Log the name of each skipped image in a batch."""
        for problem in batch.skipped:
            logger.warning("%s; using the next readable image in the list instead", problem)
        self._problems += batch.skipped

    def describe(self, interval: Totals, epoch: int, totals: Totals) -> str:
        """Return a warning about the images skipped since the last report, or "" if there are none."""
        own, self._problems = self._problems, []
        if not interval.skipped:
            return ""
        shown = "".join(f"\n  {problem}" for problem in own[:MAX_PROBLEMS_SHOWN])
        others = int(interval.skipped) - min(len(own), MAX_PROBLEMS_SHOWN)
        rest = f"\n  and {others} more, listed in the rank logs" if others else ""
        return (
            f"epoch {epoch}: {int(totals.skipped)} unreadable training images so far, each replaced by the next "
            f"readable image in the list (training.loader.max_skipped_images allows {self._limit} per epoch):{shown}"
            f"{rest}"
        )

    def require_within_limit(self, totals: Totals, epoch: int) -> None:
        """Check the number of skipped images in an epoch.

        The number is the same on all ranks, so either every rank raises an error or none does.

        Raises:
            ImageDecodeError: if the number exceeds the limit.
        """
        if totals.skipped > self._limit:
            raise ImageDecodeError(
                f"epoch {epoch}: {int(totals.skipped)} training images could not be read, but "
                f"training.loader.max_skipped_images allows only {self._limit}. Restore the files listed in the rank "
                "logs, then resume"
            )
