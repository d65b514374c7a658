"""The answer of every MAC counter, without torch or onnx."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class MacCount:
    """Multiply-adds per sample: one multiply-add is 1, so the papers' "GFLOPs" are `total / 1e9`.

    `total` is the sum of `by_operator`, whose keys are operators as their framework names them
    ("aten::convolution", "Conv"). `uncounted` names, sorted, the operators that ran, look like matrix
    work, and have no formula here: when it is not empty, `total` is a lower bound.
    """

    total: int
    by_operator: Mapping[str, int]
    uncounted: tuple[str, ...] = ()


def per_sample(counts: Mapping[str, int], uncounted: Iterable[str], batch: int) -> MacCount:
    """The count of one call over *batch* samples, divided among them, largest operator first."""
    shares = {name: (macs + batch // 2) // batch for name, macs in counts.items() if macs}
    ordered = dict(sorted(shares.items(), key=lambda item: (-item[1], item[0])))
    return MacCount(sum(ordered.values()), ordered, tuple(sorted(set(uncounted))))
