"""What came of asking whether a cascade still holds: what it does on new samples beside what was promised."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from pilotfish.cascade import Performance
from pilotfish.documents import as_document
from pilotfish.tasks import says_of
from pilotfish.text import quantity

Interval = tuple[float, float]
Word = Literal["holds", "cannot tell", "broken"]


@dataclass(frozen=True)
class Evaluation:
    """The result of :func:`pilotfish.evaluate`.

    verdict    ``broken``: an exact 5 % test rejects that the promise holds; ``holds``: the 95 % bound of what was
               promised is within the limit; else ``cannot tell``
    stages     names, the base last
    n          samples that the verdict rests on
    promised   how the cascade did when it was tuned, on held-out samples where there were some
    found      how it does on the new samples
    limit      the guarantee's target; without one, the upper end of the drop's interval when it was tuned
    kind       what is limited: ``drop``, ``agreement`` (how far answers may differ from the base's), ``cost``, or the
               name of a metric, which is to be at least so much
    p          of "the promise holds"; None where these samples cannot speak against it
    reference  ``label``, or ``base``: the base's answers are what is right
    bound      95 % confidence bound of what was promised
    needed     about how many samples like these would tell; None where the verdict is clear, or no number would
    exit_ratio_interval, cost_interval  95 % intervals of ``found``'s
    cost_key   unit of the costs
    ms         milliseconds per sample, from reading to answer, of this very run; None where nothing was run
    unanswered      samples beside the n that could not be answered: it holds only where it would, were all of them lost
    latency_limit   milliseconds that 95 % of single requests may take; None where that was not asked for
    latency_interval  95 % interval of ``found.latency_p95``; None where no requests were timed
    """

    verdict: Word
    stages: tuple[str, ...]
    n: int
    promised: Performance
    found: Performance
    limit: float
    kind: str
    p: float | None
    reference: str
    notes: tuple[str, ...] = ()
    bound: float | None = None
    needed: int | None = None
    exit_ratio_interval: tuple[Interval, ...] = ()
    cost_interval: Interval | None = None
    cost_key: str | None = None
    ms: float | None = None
    unanswered: int = 0
    latency_limit: float | None = None
    latency_interval: Interval | None = None

    def to_json(self) -> dict[str, Any]:
        """The document of ``pilotfish evaluate --json``."""
        document: dict[str, Any] = as_document(self)
        return document

    @property
    def headline(self) -> str:
        """The verdict in a line."""
        p = ""
        if self.verdict == "broken" and self.p is not None:
            p = f", p {'< 0.001' if self.p < 1e-3 else f'= {self.p:.2g}'}"
        limit = f"against the limit {self._shown(self.limit)}"
        least = "at most" if self.kind in ("drop", "agreement", "cost") else "at least"
        bound = "" if self.bound is None else f"; {least} {self._shown(self.bound)} with 95% confidence"
        more = "" if self.needed is None else f"; about {quantity(self.needed, 'sample')} like these would tell"
        left = f", and {self.unanswered:,} more could not be answered" if self.unanswered else ""
        classes = "; limits of single classes decide, see the notes" if self._decided_by_classes() else ""
        line = f"{self.verdict.upper()}: {self._found()} {limit} (n = {self.n:,}{left}{p}){bound}{more}{classes}"
        return line + self._on_latency()

    def _on_latency(self) -> str:
        if self.latency_limit is None:
            return ""
        p95 = self.found.latency_p95
        found = "was not judged" if p95 is None else f"is {p95:.4g} ms"
        return f"; p95 of single requests {found}, its limit {self.latency_limit:g} ms"

    def _decided_by_classes(self) -> bool:
        """Whether the line's own limit is kept, so that only the limits per class can have spoken against *holds*."""
        if self.verdict == "holds" or self.bound is None or not self.promised.classes:
            return False
        least = self.kind not in ("drop", "agreement", "cost")
        return self.bound >= self.limit if least else self.bound <= self.limit

    def _found(self) -> str:
        if self.kind == "cost":
            return f"cost {'unknown' if self.found.cost is None else self._shown(self.found.cost)}"
        if self.kind not in ("drop", "agreement"):
            return f"{says_of(self.kind)} {self._shown(self.found.value)}"
        low, high = (100 * end for end in self.found.drop_interval)
        said = "drop" if self.reference == "label" else "disagreement with the base"
        return f"{said} {self._shown(self.found.drop)} [{low:.2f}, {high:.2f}]"

    def _shown(self, value: float) -> str:
        if self.kind == "cost":
            return f"{value:,.6g}"
        return f"{100 * value:.2f} points" if self.kind == "drop" else f"{100 * value:.2f}%"
