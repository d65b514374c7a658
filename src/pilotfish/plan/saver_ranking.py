"""What ``savers`` found: each candidate, and their order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pilotfish.documents import as_document


@dataclass(frozen=True)
class SaverResult:
    """One candidate saver.

    exit_ratio  r_match, the largest share it can answer within the drop
    threshold   the exit threshold as people read it (a probability for max_prob)
    cost_ratio  C_S / C_B, None without costs
    delta_cost  ΔC = C_S / C_B - r_match; below 0 is a saving
    accuracy    of the saver alone on the samples that were used, or what else the ranking's metric is
    held_out    exit ratio, ΔC, drop and its 95 % interval on the held-out samples, when some were held out
    certified   exit ratio, ΔC, threshold and bound that hold for all savers at once with the confidence asked for
    n           the samples that ``exit_ratio`` and ``accuracy`` are of: those that saver and base share
    base_accuracy  of the base on the same samples
    comparable  False where so many of the base's samples are missing that it ranks after the others, and is never best
    """

    saver: str
    exit_ratio: float
    threshold: float
    cost_ratio: float | None
    delta_cost: float | None
    accuracy: float
    held_out: dict[str, Any] | None = None
    certified: dict[str, Any] | None = None
    n: int | None = None
    base_accuracy: float | None = None
    comparable: bool = True


@dataclass(frozen=True)
class SaverRanking:
    """Candidates for one base, best first. ``best`` is None when no saver saves anything: run the base alone.
    ``metric`` names what drops are in."""

    base: str
    cost: str
    n: int
    best: str | None
    savers: tuple[SaverResult, ...]
    base_accuracy: float
    split: str
    score: str
    method: str
    max_drop: float
    holdout: float
    reference: str
    notes: tuple[str, ...] = ()
    guarantee: dict[str, Any] | None = None
    metric: str = "accuracy"

    def to_json(self) -> dict[str, Any]:
        """The document of ``pilotfish savers --json``."""
        found: dict[str, Any] = as_document(self)
        return found
