"""What a published model costs: MACs, or time per sample on a device that was benchmarked."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pilotfish.errors import UsageError, nearest
from pilotfish.plan.shortlist.table import PublishedTable

MACS, MS = "macs", "ms"


def resolve_cost(
    table: PublishedTable, cost: str | None, device: str | None
) -> tuple[str, str | None, NDArray[np.float64]]:
    """(cost key, device or None, cost of every row). ms are milliseconds per sample, NaN where not measured.

    ``macs`` without a device, ``ms@DEVICE``, or ``ms`` (or nothing) with a device. UsageError for anything else.
    """
    kind, _, named = (cost or (MS if device else MACS)).partition("@")
    if kind not in (MACS, MS) or (kind == MACS and named):
        raise UsageError(
            f"cost {cost!r} is not published; valid are macs, and ms@DEVICE with DEVICE of {_names(table)}"
        )
    if kind == MACS:
        if device:
            raise UsageError(
                f"MACs are the same on {device} as anywhere; leave the device out, or use cost ms@{device}"
            )
        return MACS, None, table.macs
    if named and device and named != device:
        raise UsageError(f"cost {cost} and device {device} name two devices; give one of them")
    chosen = named or device
    if not chosen:
        raise UsageError(f"cost ms needs a device: ms@DEVICE with DEVICE of {_names(table)}")
    if chosen not in table.samples_per_s:
        raise UsageError(f"no published speeds for device {chosen!r}; {nearest(chosen, table.samples_per_s)}")
    return f"{MS}@{chosen}", chosen, 1000 / table.samples_per_s[chosen]


def _names(table: PublishedTable) -> str:
    return ", ".join(table.samples_per_s) or "no device"
