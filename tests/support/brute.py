"""References that are obviously right: plain loops, whole counts, fractions. No numpy, no cleverness."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import NamedTuple

NOBODY, EVERYBODY = math.inf, -math.inf


class Point(NamedTuple):
    """One threshold: how many samples exit, and how many answers they win (or lose) against the base."""

    threshold: float
    exited: int
    gain: int


def count(scores: Sequence[float], saver_ok: Sequence[bool], base_ok: Sequence[bool], t: float) -> Point:
    """What score >= t does."""
    exited = gain = 0
    for score, s, b in zip(scores, saver_ok, base_ok, strict=True):
        if score >= t:  # False for NaN
            exited += 1
            gain += int(s) - int(b)
    return Point(t, exited, gain)


def every_threshold(scores: Sequence[float], saver_ok: Sequence[bool], base_ok: Sequence[bool]) -> list[Point]:
    """Nobody, then every distinct score from the largest on; the last is -inf when it lets everybody exit."""
    distinct = sorted({s for s in scores if not math.isnan(s)}, reverse=True)
    points = [count(scores, saver_ok, base_ok, t) for t in distinct]
    if points and points[-1].exited == len(scores):
        points[-1] = points[-1]._replace(threshold=EVERYBODY)
    return [Point(NOBODY, 0, 0), *points]


def walk(scores: Sequence[float], saver_ok: Sequence[bool], base_ok: Sequence[bool]) -> list[Point]:
    """:func:`every_threshold` for large data: one pass over the samples sorted by score. No NaN."""
    rows = sorted(zip(scores, saver_ok, base_ok, strict=True), key=lambda row: -row[0])
    points, gain = [Point(NOBODY, 0, 0)], 0
    for place, (score, s, b) in enumerate(rows):
        gain += int(s) - int(b)
        if place + 1 == len(rows) or rows[place + 1][0] != score:
            points.append(Point(score if place + 1 < len(rows) else EVERYBODY, place + 1, gain))
    return points


def largest_within(points: Iterable[Point], n: int, max_drop: Fraction = Fraction(0)) -> Point | None:
    """Eq. 7: the most that can exit while the cascade loses no more than *max_drop*."""
    kept = [p for p in points if Fraction(-p.gain, n) <= max_drop]
    return max(kept, key=lambda p: p.exited) if kept else None


def cost(point: Point, n: int, saver: Fraction, base: Fraction) -> Fraction:
    """Eq. 1: C_S + (1 - r) C_B."""
    return saver + (1 - Fraction(point.exited, n)) * base


def most_accurate_within(
    points: Iterable[Point], n: int, max_cost: Fraction, saver: Fraction, base: Fraction
) -> Point | None:
    """The smallest drop at a cost of at most *max_cost*; of those the cheapest."""
    kept = [p for p in points if cost(p, n, saver, base) <= max_cost]
    return max(kept, key=lambda p: (p.gain, p.exited)) if kept else None


def grid50(scores: Sequence[float], saver_ok: Sequence[bool], base_ok: Sequence[bool], max_drop: Fraction) -> Point:
    """Little-Big: the smallest T = k/50 whose cascade is accurate enough, score >= T; else nobody exits."""
    for k in range(50):
        point = count(scores, saver_ok, base_ok, k / 50)
        if Fraction(-point.gain, len(scores)) <= max_drop:
            return point
    return Point(NOBODY, 0, 0)


def first_violation(scores: Sequence[float], saver_ok: Sequence[bool], base_ok: Sequence[bool]) -> Point:
    """TinySaver's released scan: t = 1.000 … 0.001, score > t, up to and with the first t where the saver is worse."""
    for k in range(1000, 0, -1):
        exited = [i for i, score in enumerate(scores) if score > k / 1000]
        gain = sum(saver_ok[i] for i in exited) - sum(base_ok[i] for i in exited)
        if gain < 0 or k == 1:
            return Point(k / 1000, len(exited), gain)
    raise AssertionError("the scan ends at 0.001")


def undominated(efforts: Sequence[float], drops: Sequence[float]) -> list[int]:
    """Policies that no other beats: no other is as good in both and better in one; of equals the last."""
    kept = []
    for i in range(len(efforts)):
        mine = (efforts[i], drops[i])
        others = [(efforts[j], drops[j]) for j in range(len(efforts))]
        beaten = any(e <= mine[0] and d <= mine[1] and (e, d) != mine for e, d in others)
        if not beaten and mine not in others[i + 1 :]:
            kept.append(i)
    return sorted(kept, key=lambda i: efforts[i])
