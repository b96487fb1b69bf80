"""Divides the images of an optimizer step among the ranks."""

from __future__ import annotations


def divide_step(images_per_step: int, ranks: int, most: int) -> tuple[int, int]:
    """Return the batch size per rank and the number of batches per step.

    All ranks process the same number of images, in as few equally sized batches as possible.

    Args:
        images_per_step: total number of images per step for all ranks, at least 1.
        ranks: number of ranks, at least 1.
        most: maximum batch size per rank, at least 1.

    Raises:
        ValueError: if the images cannot be divided; the message suggests the nearest divisible numbers.
    """
    divided = _divide(images_per_step, ranks, most)
    if divided is None:
        below = next((n for n in range(images_per_step - 1, 0, -1) if _divide(n, ranks, most)), None)
        above = next(n for n in range(images_per_step + 1, 2 * images_per_step + ranks + 1) if _divide(n, ranks, most))
        nearest = f"{below} or {above}" if below else str(above)
        raise ValueError(
            f"images_per_step {images_per_step} cannot be divided among {ranks} ranks in equal batches of at most "
            f"{most} images (max_batch_size_per_rank); set images_per_step to {nearest}, or change the number of ranks"
        )
    return divided


def _divide(images_per_step: int, ranks: int, most: int) -> tuple[int, int] | None:
    share, rest = divmod(images_per_step, ranks)
    if rest or share == 0:
        return None
    batches = next(n for n in range(-(-share // most), share + 1) if share % n == 0)
    # Reject batches of less than half the maximum, which are slow and too small for BatchNorm. Such batches occur only
    # for unlucky numbers of images, such as primes.
    return (share // batches, batches) if 2 * share > most * batches or batches == 1 else None
