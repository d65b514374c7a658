"""What a classifier said about N samples, reduced to what scores and planning need.

One function reduces raw outputs, for the recorder and for the run time alike, so a threshold set on
records cuts the same numbers when the cascade runs.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from pilotfish.errors import RecordsError
from pilotfish.scores.ragged import Ragged

FloatArray = NDArray[np.floating]
F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
Mask = NDArray[np.bool_]

UNDERFLOWN = 1e-280  # a sum of exponentials below it has lost terms
LARGEST = float(np.finfo(np.float64).max)
TOP_K = 10  # classes that scores look at one by one; records keep as many


class SampleArrays:
    """What the outputs of every task are: a frozen dataclass of arrays that share their first axis of N samples, or of
    :class:`~pilotfish.scores.ragged.Ragged` lists.

    A field is None where it is not known; the first one never is.
    """

    def __len__(self) -> int:
        return len(next(iter(vars(self).values())))

    def take(self, rows: NDArray[np.intp] | Mask | slice) -> Self:
        """The same outputs for some rows, in the order given."""
        return type(self)(**{name: None if value is None else value[rows] for name, value in vars(self).items()})

    def __getitem__(self, rows: Any) -> Self:
        """As :meth:`take`: what is known of samples may be such arrays as well."""
        return self.take(rows)


S = TypeVar("S", bound=SampleArrays)


@dataclass(frozen=True)
class Outputs(SampleArrays):
    """Reduced outputs of one classifier. Arrays share their first axis of N samples.

    prediction   int64 (N,)      the predicted class
    log_odds     float64 (N,)    log p1 / (1 - p1) of the predicted class: the order of max-softmax, and
                                 unlike max-softmax it does not saturate at 1.0. NaN where the model's
                                 outputs were not finite: such a sample is never confident
    log_sum_exp  float64 (N,)    log-sum-exp of all logits
    top_classes  int32 (N, K)    the K best classes, best first
    top_logits   float32 (N, K)  their logits (log-probabilities when probabilities were imported)
    confidence   float64 (N,)    a confidence of unknown scale, when nothing better is known (imports)
    logits       float32 (N, C)  all logits in class order, when recorded with ``--store full``
    """

    prediction: I64
    log_odds: F64 | None = None
    log_sum_exp: F64 | None = None
    top_classes: I32 | None = None
    top_logits: F32 | None = None
    confidence: F64 | None = None
    logits: F32 | None = None

    def best(self, k: int) -> Outputs:
        """The same outputs with no more than the *k* best classes: what records of the k best would hold."""
        if self.top_classes is None or self.top_logits is None or self.top_classes.shape[1] <= k:
            return self
        return dataclasses.replace(self, top_classes=self.top_classes[:, :k], top_logits=self.top_logits[:, :k])


def from_logits(logits: FloatArray, top_k: int = 1, keep_all: bool = False) -> Outputs:
    """Reduce logits (N, C) of any float dtype; sums run in float64.

    A row with NaN or +inf is not confident: its ``log_odds`` is NaN. -inf is a masked class.
    """
    z = np.asarray(logits)
    if z.dtype.kind in "iu":
        z = z.astype(np.float64)  # quantised logits: integers wrap around when they are negated
    if z.ndim != 2 or z.shape[1] < 2:
        raise RecordsError(f"expected logits of shape (N, C) with C >= 2, found shape {z.shape}")
    rows = np.arange(len(z))
    best = z.argmax(axis=1)
    top = z[rows, best].astype(np.float64)
    others = z.astype(np.float64)
    others[rows, best] = -np.inf
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        others -= top[:, None]
        sums = np.exp(others, out=others).sum(axis=1)
        log_odds = -np.log(sums)
        far = np.flatnonzero(~(sums > UNDERFLOWN))
        if len(far):
            log_odds[far] = _far_log_odds(z[far], best[far])
        log_odds = np.minimum(log_odds, LARGEST)  # keeps NaN; +inf would meet a threshold of +inf
        log_sum_exp = top + np.log1p(np.exp(-log_odds))
    log_odds[~np.isfinite(top)] = np.nan
    with np.errstate(over="ignore"):  # float64 logits beyond float32 are kept as infinities
        if top_k <= 1:  # a call for one sample spends most of its time in here
            classes, top_logits = best[:, None], z[rows, best].astype(np.float32)[:, None]
        else:
            classes = _best_k(z, min(top_k, z.shape[1]))
            top_logits = np.take_along_axis(z, classes, axis=1).astype(np.float32)
        kept = z.astype(np.float32) if keep_all else None
    return Outputs(
        prediction=best.astype(np.int64),
        log_odds=log_odds,
        log_sum_exp=log_sum_exp,
        top_classes=classes.astype(np.int32),
        top_logits=top_logits,
        logits=kept,
    )


def _far_log_odds(z: FloatArray, best: NDArray[np.intp]) -> F64:
    """The log-odds of rows whose sums underflow relative to the top: relative to the runner-up they do not."""
    rows = np.arange(len(z))
    others = z.astype(np.float64)
    top = others[rows, best]
    others[rows, best] = -np.inf
    second = others.max(axis=1)
    second = np.where(np.isfinite(second), second, 0.0)
    found: F64 = (top - second) - np.log(np.exp(others - second[:, None]).sum(axis=1))
    return found


def log_odds_of_one(row: F32) -> tuple[int, float] | None:
    """(prediction, log_odds) of one sample's logits (C,), to the bit what :func:`from_logits` gives, in a third of its
    time. None where outputs are not finite or one class is all but certain: ask :func:`from_logits`."""
    best = int(row.argmax())
    others = row.astype(np.float64)
    top = float(others[best])
    others[best] = -np.inf
    if not math.isfinite(top):
        return None
    np.subtract(others, top, out=others)
    np.exp(others, out=others)
    total = np.add.reduce(others)  # reduce: sum takes a detour through Python
    return (best, -float(np.log(total))) if total > UNDERFLOWN else None


def from_probabilities(probabilities: FloatArray, top_k: int = 1, keep_all: bool = False) -> Outputs:
    """Reduce probabilities (N, C). Rows are normalised; the rest of a row is summed without its largest
    entry, so confidences that round to 1.0 keep their order."""
    p = np.asarray(probabilities)
    if p.ndim != 2 or p.shape[1] < 2:
        raise RecordsError(f"expected probabilities of shape (N, C) with C >= 2, found shape {p.shape}")
    p = p.astype(np.float64)
    total = p.sum(axis=1)
    bad = ~((p >= 0).all(axis=1) & (np.abs(total - 1) < 0.02))
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise RecordsError(
            f"row {row} is not a probability vector (sum {total[row]:.4g}, min {p[row].min():.4g}); "
            "if these are logits, name the array 'logits'"
        )
    with np.errstate(divide="ignore"):
        outputs = from_logits(np.log(p), top_k=top_k, keep_all=keep_all)
    return outputs


def join_outputs(parts: Sequence[S]) -> S:
    """Outputs of consecutive samples as one; all parts have the same columns."""
    if len(parts) == 1:
        return parts[0]
    columns: dict[str, Any] = {}
    for name, first in vars(parts[0]).items():
        columns[name] = None if first is None else join_rows([getattr(part, name) for part in parts])
    return type(parts[0])(**columns)


def join_rows(parts: Sequence[Any]) -> Any:
    """Arrays, lists or outputs of consecutive samples as one."""
    if isinstance(parts[0], SampleArrays):
        return join_outputs(parts)
    if isinstance(parts[0], Ragged):
        return Ragged.join(parts)
    if parts[0].ndim == 2:  # one column stands for any number: the truth of samples without any
        widest = max(part.shape[1] for part in parts)
        parts = [np.broadcast_to(part, (len(part), widest)) if part.shape[1] == 1 else part for part in parts]
    return np.concatenate(parts)


def rows_differ(one: Any, other: Any) -> Mask:
    """bool (N,): where the rows of two arrays, lists or outputs of the same kind are not the same."""
    if isinstance(one, SampleArrays):
        mine, theirs = vars(one), vars(other)
        parts = [rows_differ(mine[name], theirs[name]) for name in mine if mine[name] is not None]
        return np.asarray(np.any(parts, axis=0))
    if isinstance(one, Ragged):
        differ: Mask = one.counts != other.counts
        same = np.flatnonzero(~differ)
        a, b = one[same], other[same]
        differ[same] = ~a.all_true(a.values == b.values)
        return differ
    if one.shape != other.shape:
        return np.ones(len(one), bool)
    return np.asarray((one != other).any(axis=tuple(range(1, one.ndim))))


def choose_rows(parts: Sequence[S], which: NDArray[np.intp]) -> S:
    """For each of N samples the outputs of one of *parts*, by its place int (N,). Arrays that not all parts have, or
    that are of other widths, are left out."""
    columns: dict[str, Any] = {}
    for name in vars(parts[0]):
        arrays = [getattr(part, name) for part in parts]
        if all(isinstance(a, Ragged) for a in arrays):
            columns[name] = Ragged.join(arrays)[which * len(which) + np.arange(len(which))]
            continue
        alike = all(a is not None and a.shape == arrays[0].shape for a in arrays)
        columns[name] = np.stack(arrays)[which, np.arange(len(which))] if alike else None
    return type(parts[0])(**columns)


def bad_rows(logits: FloatArray) -> NDArray[np.intp]:
    """Indices of rows that hold NaN or +inf."""
    z = np.asarray(logits)
    return np.flatnonzero(np.isnan(z).any(axis=1) | np.isposinf(z).any(axis=1))


def _best_k(z: FloatArray, k: int) -> NDArray[np.intp]:
    """Column indices (N, K) of the K largest entries, best first; ties by the lower class."""
    if k < z.shape[1]:
        candidates = np.sort(np.argpartition(-z, k - 1, axis=1)[:, :k], axis=1)
        kth = np.take_along_axis(z, candidates, axis=1).min(axis=1, keepdims=True)
        tied = np.flatnonzero((z >= kth).sum(axis=1) > k)  # which of the tied classes are in is arbitrary so far
        candidates[tied] = np.sort(np.argsort(-z[tied], axis=1, kind="stable")[:, :k], axis=1)
    else:
        candidates = np.broadcast_to(np.arange(z.shape[1]), z.shape)
    order = np.argsort(-np.take_along_axis(z, candidates, axis=1), axis=1, kind="stable")
    best: NDArray[np.intp] = np.take_along_axis(candidates, order, axis=1)
    first = z.argmax(axis=1)[:, None]  # the prediction leads even when the top is tied
    best = np.where(best == first, best[:, :1], best)
    best[:, :1] = first
    return best


def has_top(outputs: Outputs, k: int = 1) -> bool:
    """Whether the k best classes' log-probabilities are known."""
    return outputs.log_odds is not None and available(outputs) >= k


def available(outputs: Outputs) -> int:
    """How many of the best classes have a log-probability."""
    if outputs.top_logits is None or outputs.log_sum_exp is None or outputs.top_classes is None:
        return 0
    return int(outputs.top_logits.shape[1])


def top_log_probs(outputs: Outputs, k: int, what: str) -> F64:
    """float64 (N, k), falling: log p(1) … log p(k). The first comes from the log-odds, which do not saturate.

    Fewer than k stored classes are filled with -inf where there are no more classes; RecordsError without logits.
    """
    if outputs.top_logits is None or outputs.log_sum_exp is None or outputs.log_odds is None:
        found = "a confidence" if outputs.confidence is not None else "classes"
        raise RecordsError(
            f"{what} needs logits or probabilities of the best classes, and these records hold {found} alone: "
            "use score max_prob and method sweep, or record the model"
        )
    z = outputs.top_logits[:, :k].astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        logp = z - outputs.log_sum_exp[:, None]
        logp[:, 0] = -np.log1p(np.exp(-outputs.log_odds))
    if logp.shape[1] < k:
        logp = np.pad(logp, ((0, 0), (0, k - logp.shape[1])), constant_values=-np.inf)
    return np.minimum(logp, 0.0)


def log_rest(outputs: Outputs, logp: F64) -> F64:
    """float64 (N,): log of the probability outside the columns of *logp*; -inf where nothing is left."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        others = -np.logaddexp(0.0, np.asarray(outputs.log_odds))  # log(1 - p1)
        known = np.exp(logp[:, 1:] - others[:, None]).sum(axis=1)
        return np.asarray(others + np.where(known < 1 - 1e-6, np.log1p(-np.minimum(known, 1.0)), -np.inf))
