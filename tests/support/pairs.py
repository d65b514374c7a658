"""hypothesis strategies: small pairs of models with everything that breaks threshold code."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st

from pilotfish.plan.trace import Trace, trace_of


class Pair(NamedTuple):
    """A saver's scores, and who is right."""

    scores: list[float]
    saver_ok: list[bool]
    base_ok: list[bool]

    @property
    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return np.array(self.scores, np.float64), np.array(self.saver_ok, bool), np.array(self.base_ok, bool)

    def trace(self, costs: tuple[float, float] | None = None, saver: str = "s") -> Trace:
        """The two stages as planning takes them."""
        score, *good = self.arrays
        return trace_of([score], good, costs, names=(saver, "b"))


# no two of them so near that a threshold at one does not part them: see cascade.decide_at
TIED = st.sampled_from([0.0, 0.02, 0.1, 0.3, 0.5, 0.500001, 0.98, 0.999, 1.0])
WILD = st.sampled_from([-1e308, -40.0, -1e-9, -0.0, 0.0, 1e-9, 36.7, 36.8, 745.2, 1e308]) | st.floats(
    allow_nan=False, allow_infinity=False, width=16
)
UNKNOWN = st.just(math.nan)


def _right(n: int) -> st.SearchStrategy[list[bool]]:
    mixed = st.lists(st.booleans(), min_size=n, max_size=n)
    return mixed | st.just([True] * n) | st.just([False] * n)


@st.composite
def pairs(draw: st.DrawFn, finite: bool = False, largest: int = 25) -> Pair:
    """1 to *largest* samples: ties, constant scores, huge and tiny ones, NaN unless *finite*."""
    n = draw(st.integers(1, largest))
    one = draw(st.sampled_from([TIED, WILD] if finite else [TIED, WILD, TIED | UNKNOWN, WILD | UNKNOWN, UNKNOWN]))
    constant = draw(st.booleans()) and draw(st.booleans())
    scores = [draw(one)] * n if constant else draw(st.lists(one, min_size=n, max_size=n))
    return Pair(scores, draw(_right(n)), draw(_right(n)))


@st.composite
def probability_pairs(draw: st.DrawFn, largest: int = 25) -> Pair:
    """Scores in 0..1, many exactly on the papers' grids, and NaN."""
    n = draw(st.integers(1, largest))
    one = (
        st.integers(0, 50).map(lambda k: k / 50)
        | st.integers(0, 1000).map(lambda k: k / 1000)
        | st.floats(0, 1, width=16)
        | UNKNOWN
    )
    return Pair(draw(st.lists(one, min_size=n, max_size=n)), draw(_right(n)), draw(_right(n)))


@st.composite
def graded_traces(draw: st.DrawFn, largest: int = 25, costs: tuple[float, float] | None = None) -> Trace:
    """Two stages whose answers have a quality in eighths, so that sums are exact."""
    drawn = draw(pairs(largest=largest))
    n = len(drawn.scores)
    eighths = st.lists(st.integers(0, 8).map(lambda k: k / 8), min_size=n, max_size=n)
    return trace_of([drawn.scores], [draw(eighths), draw(eighths)], costs, names=("s", "b"))
