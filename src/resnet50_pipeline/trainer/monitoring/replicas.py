"""Detects silent corruption: compares the weights and optimizer state of all ranks, which must be bit-identical.

Every rank applies the same reduced gradients to the same weights, so a difference means that one rank's processor,
memory or driver has made an error. Each rank computes a CRC-32 of every tensor, and the ranks exchange only these
numbers. CRC-32 detects every error within 32 consecutive bits, and misses other errors with a probability of 2^-32.

BatchNorm's running statistics differ between ranks, because each rank trains on different images. They are not
compared.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from resnet50_pipeline.events import ReplicasDiffer, WarningRaised
from resnet50_pipeline.exceptions import ReplicasDifferError
from resnet50_pipeline.text import pluralize
from resnet50_pipeline.trainer.ranks import Ranks

_TENSORS_SHOWN = 3

Interval = int | Literal["epoch"] | None
Replicated = Callable[[], Iterable[tuple[str, NDArray[Any]]]]


class ReplicaCheck:
    """Compares the state of all ranks at regular intervals and before each checkpoint set.

    If the ranks differ, no set is written, so a run always resumes from a state on which all ranks agreed.
    """

    def __init__(
        self,
        interval: Interval,
        ranks: Ranks,
        replicated: Replicated,
        emit: Callable[[ReplicasDiffer | WarningRaised], None],
        *,
        first_step: int = 0,
        earlier: ReplicasDiffer | None = None,
    ) -> None:
        """Set up the comparison for this rank.

        Args:
            interval: number of steps between comparisons within an epoch, or `epoch` for no comparisons within an
                epoch. None and 0 turn off all comparisons.
            ranks: this rank.
            replicated: returns the tensors that must be identical on all ranks as (name, host array), in the same order
                on every rank.
            emit: called with the events.
            first_step: number of steps finished before this process started.
            earlier: difference that ended an earlier attempt of this run, if it was found in the step in which the
                error occurred and this attempt repeats that step. Otherwise, None.
        """
        self._interval = interval or None
        self._ranks, self._replicated, self._emit = ranks, replicated, emit
        self._verified = first_step
        self._earlier = earlier

    def check_at_interval(self, step: int) -> None:
        """Compare the ranks if a comparison is due after this step (see `require_equal`)."""
        if isinstance(self._interval, int) and step % self._interval == 0:
            self.require_equal(step)

    def require_equal(self, step: int) -> None:
        """Compare the ranks, unless they were already compared after this step. All ranks must call this method.

        Raises:
            ReplicasDifferError: if the ranks differ, on all ranks. The message names the rank that differs from the
                majority, if there is a majority.
        """
        if self._interval is None or self._ranks.count == 1 or step == self._verified:
            return
        names, own = digest_tensors(self._replicated())
        table = self._ranks.gather(own)
        digests = tuple(zlib.crc32(row.astype(np.uint32).tobytes()) for row in table)
        difference = compare_replicas(names, table)
        if difference is not None:
            self._emit(
                ReplicasDiffer(
                    step=step,
                    verified_step=self._verified,
                    ranks=difference.odd,
                    tensors=difference.tensors,
                    digests=digests,
                )
            )
            # When a rank exits with an error, the launcher kills the others. Let rank 0 write the event first.
            self._ranks.barrier()
            raise ReplicasDifferError(difference.describe(step, self._verified))
        self._verified = step
        if self._earlier is not None and self._earlier.step == step:
            self._emit(WarningRaised(message=describe_replay(self._earlier, digests[0])))
            self._earlier = None


@dataclass(frozen=True)
class Difference:
    """A difference between the states of the ranks.

    Attributes:
        groups: ranks with identical state, the largest group first.
        tensors: names of the tensors that differ.
        compared: number of compared tensors.
    """

    groups: tuple[tuple[int, ...], ...]
    tensors: tuple[str, ...]
    compared: int

    @property
    def odd(self) -> tuple[int, ...]:
        """Ranks that differ from the majority. Empty if no group is a majority, as with two ranks."""
        total = sum(len(group) for group in self.groups)
        return tuple(sorted(sum(self.groups[1:], ()))) if 2 * len(self.groups[0]) > total else ()

    def describe(self, step: int, verified: int) -> str:
        """Return the error message."""
        shown = ", ".join(self.tensors[:_TENSORS_SHOWN])
        where = (
            f"at step {step}, in {len(self.tensors)} of {pluralize(self.compared, 'tensor')} ({shown}"
            f"{', …' if len(self.tensors) > _TENSORS_SHOWN else ''}). They were identical after step {verified}, and "
            "no checkpoint set has been written since. A processor, memory module or driver made an error"
        )
        if self.odd:
            odd = _list_ranks(self.odd)
            return (
                f"{odd} {'differs' if len(self.odd) == 1 else 'differ'} from the other ranks {where} on {odd} → test "
                f"that machine and device, or leave it out, then resume with training.resume=true"
            )
        if step == verified + 1:
            advice = (
                f"resume with training.resume=true on the same number of ranks. The run repeats the steps. If the "
                f"device is deterministic, a warning after step {step} names the rank that was wrong"
            )
        else:
            # Since the error, every rank has applied gradients that were computed from the wrong weights.
            advice = (
                "test all machines and devices. If you resume with training.replica_check_interval=1, the next error "
                "is found within its step, and repeating this step shows which rank was wrong"
            )
        return f"the ranks differ, and no majority of them agrees: {_list_groups(self.groups)} {where} → {advice}"


def digest_tensors(tensors: Iterable[tuple[str, NDArray[Any]]]) -> tuple[list[str], list[float]]:
    """Return the names and the CRC-32 of each tensor. A float64 represents every CRC-32 exactly."""
    names, digests = [], []
    for name, array in tensors:
        names.append(name)
        digests.append(float(zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)))
    return names, digests


def compare_replicas(names: Sequence[str], table: NDArray[np.float64]) -> Difference | None:
    """Return the difference between ranks, or None if all ranks are identical.

    Args:
        names: names of the N tensors.
        table: [ranks, N], digest of each tensor on each rank.
    """
    differs = (table != table[0]).any(axis=0)
    if not differs.any():
        return None
    groups: dict[bytes, list[int]] = {}
    for rank, row in enumerate(table):
        groups.setdefault(row.tobytes(), []).append(rank)
    ordered = sorted((tuple(ranks) for ranks in groups.values()), key=lambda ranks: (-len(ranks), ranks))
    return Difference(tuple(ordered), tuple(name for name, one in zip(names, differs, strict=True) if one), len(names))


def describe_replay(earlier: ReplicasDiffer, digest: int) -> str:
    """Return a warning that names the ranks whose earlier state was reproduced by repeating the steps.

    Args:
        earlier: the difference that ended the earlier attempt.
        digest: digest of the state after the same step in this attempt, on which all ranks agree.
    """
    right = tuple(rank for rank, one in enumerate(earlier.digests) if one == digest)
    wrong = tuple(rank for rank, one in enumerate(earlier.digests) if one != digest)
    if right:
        return (
            f"the ranks differed at step {earlier.step}. Repeating the steps reproduced the state of "
            f"{_list_ranks(right)}, so {_list_ranks(wrong)} made the error → test that machine and device"
        )
    return (
        f"the ranks differed at step {earlier.step}. Repeating the steps reproduced no rank's state, so the device or "
        "the settings are not deterministic, or more than one rank was wrong → test all devices"
    )


def _list_groups(groups: Sequence[tuple[int, ...]]) -> str:
    return " | ".join(_list_ranks(ranks) for ranks in groups)


def _list_ranks(ranks: Sequence[int]) -> str:
    return f"{'rank' if len(ranks) == 1 else 'ranks'} {', '.join(map(str, ranks))}"
