"""Train images that cannot be read: named where they are met, counted over all ranks, and no more than allowed."""

from __future__ import annotations

import logging

from resnet50_pipeline.exceptions import MAX_PROBLEMS_SHOWN, ImageDecodeError
from resnet50_pipeline.trainer.data import Batch
from resnet50_pipeline.trainer.meters import Totals

logger = logging.getLogger(__name__)


class SkippedImages:
    """What one rank has met since it was last asked, and the bound for all of them in an epoch.

    The counts ride on the sums of the print steps, and with them in checkpoint sets: a run that is stopped and resumed
    in the middle of an epoch counts on.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._problems: list[str] = []

    def note(self, batch: Batch) -> None:
        """Name the batch's skipped images in this rank's log."""
        for problem in batch.skipped:
            logger.warning("%s; the next readable image of the list stands in for it", problem)
        self._problems += batch.skipped

    def describe(self, interval: Totals, epoch: int, totals: Totals) -> str:
        """Return what the user should know of the steps since the last time; "" if nothing was skipped."""
        mine, self._problems = self._problems, []
        if not interval.skipped:
            return ""
        shown = "".join(f"\n  {problem}" for problem in mine[:MAX_PROBLEMS_SHOWN])
        others = int(interval.skipped) - min(len(mine), MAX_PROBLEMS_SHOWN)
        rest = f"\n  and {others} more, in the ranks' logs" if others else ""
        return (
            f"epoch {epoch}: {int(totals.skipped)} train images so far could not be read, the next readable ones of "
            f"the list stand in for them ({self._limit} are allowed in an epoch):{shown}{rest}"
        )

    def require_within_limit(self, totals: Totals, epoch: int) -> None:
        """Check the number of an epoch's skipped images; every rank has the same, so all stop or none.

        Raises:
            ImageDecodeError: there are more than allowed.
        """
        if totals.skipped > self._limit:
            raise ImageDecodeError(
                f"epoch {epoch}: {int(totals.skipped)} train images could not be read, and "
                f"training.loader.max_skipped_images allows {self._limit}; the ranks' logs name them: mend the files "
                f"and resume"
            )
