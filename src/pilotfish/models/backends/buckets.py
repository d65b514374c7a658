"""Fixed batch sizes for backends that are compiled or captured per shape.

A batch of any size runs in the smallest bucket that holds it; the rows that were padded are cut off again, so they
never reach a caller. Batches above the largest bucket run in several calls.
"""

from __future__ import annotations

from collections.abc import Sequence

BUCKETS = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)


def bucket_of(n: int, buckets: Sequence[int] = BUCKETS) -> int:
    """The smallest bucket that holds *n* samples; the largest when none does."""
    return next((size for size in buckets if size >= n), buckets[-1])


def pieces(n: int, buckets: Sequence[int] = BUCKETS) -> list[tuple[int, int, int]]:
    """(first row, end, bucket) of the calls that *n* rows take."""
    most = buckets[-1]
    cuts = [(first, min(first + most, n)) for first in range(0, n, most)]
    return [(first, end, bucket_of(end - first, buckets)) for first, end in cuts]
