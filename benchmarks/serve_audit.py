"""Do the bounds of audits hold at every time at once, and how tight are they? Replays of CIFAR-10, and other bets.

    python benchmarks/serve_audit.py --data ../shared/data

A replay draws exits of a real pair of models with replacement, one audit after the other: all exits are its population,
so the true disagreement is known. A bound that is below it at any time from the first audit to the last has failed in
that replay; at 95 % it may in 5 % of them. Beside the mixture of fixed stakes that `pilotfish serve` uses stand other
bets of Waudby-Smith and Ramdas (arXiv 2010.09686), and Clopper-Pearson's bound for one n, looked at all the time.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from public_data import cifar
from scipy.special import betaincinv

from pilotfish.serve.watch.audit import Audit
from pilotfish.serve.watch.betting import LOG_WEIGHTS, STAKES, MeanSequence

F64 = NDArray[np.float64]
ALPHA = 0.05
PAIRS = (("wrn16_4", "wrn_28_10"), ("wrn16_4", "shake_shake_26_2x64d_SSI_cutout16"), ("lenet5", "wrn16_4"))
RATES = (0.001, 0.003, 0.01, 0.03)
AT = 2000
CLIP = 0.9  # share of the wealth that a predictable bet may lose


@dataclass(frozen=True)
class Population:
    """The exits of a pair at one threshold. differ bool (E,); exit_ratio and drop (of accuracy) of all samples."""

    pair: str
    differ: NDArray[np.bool_]
    exit_ratio: float
    drop: float

    @property
    def rate(self) -> float:
        return float(self.differ.mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with cifar10_test.npz")
    parser.add_argument("--replays", type=int, default=300)
    parser.add_argument("--audits", type=int, default=10_000, help="of a replay")
    parser.add_argument("--json", metavar="FILE", help="write the rows to FILE as well")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    print(f"{options.replays} replays of {options.audits:,} audits; bounds at {1 - ALPHA:.0%}, in %\n")
    print(
        "pair                                        exits  rate | held  bound at 2,000: mean  largest | within 2 rate"
    )
    print("                                                        | at all times                       | + .5 points")
    for population in populations(options.data):
        row = replay(population, options.replays, options.audits)
        rows.append(row)
        print(
            f"{population.pair:44s}{100 * population.exit_ratio:5.1f}{100 * population.rate:7.2f} |"
            f"{100 * row['held']:5.1f}{100 * row['mean']:23.3f}{100 * row['largest']:9.3f} |{100 * row['within']:8.1f}",
            flush=True,
        )
    print(f"\nOther bets, {PAIRS[0][0]} -> {PAIRS[0][1]}: failed at some time, and mean bound after 2,000 audits, in %")
    print(f"{'':34s}" + "".join(f"{100 * rate:13.1f} %" for rate in RATES))
    for name, method in METHODS.items():
        cells = []
        for population in populations(options.data)[: len(RATES)]:
            failed, bound = compare(population, method, min(options.replays, 100), 2 * AT)
            cells.append({"rate": population.rate, "failed": failed, "bound": bound})
        rows.append({"bets": name, "cells": cells})
        print(f"{name:34s}" + "".join(f"{100 * c['failed']:6.0f}{100 * c['bound']:9.3f}" for c in cells), flush=True)
    print("\n" + timed())
    if options.json:
        Path(options.json).write_text(json.dumps(rows))


def populations(data: Path) -> list[Population]:
    """Each pair at the thresholds where its exits disagree with the base as often as in RATES, about."""
    task, found = cifar(data, 10), []
    for saver, base in PAIRS:
        one, other = task.records[saver], task.records[base]
        order = np.argsort(-one.outputs.log_odds, kind="stable")  # the surest first
        differ = (one.outputs.prediction != other.outputs.prediction)[order]
        lost = (other.outputs.prediction == other.label).astype(int) - (one.outputs.prediction == one.label)
        running = np.cumsum(differ) / np.arange(1, len(differ) + 1)
        for rate in RATES:
            below = np.flatnonzero(running <= rate)
            n = int(below[-1]) + 1 if len(below) else 0
            if n < 200:
                continue
            drop = float(lost[order][:n].sum() / len(order))
            found.append(Population(f"{saver} -> {base}"[:43], differ[:n], n / len(order), drop))
    return found


def draws(population: Population, replays: int, audits: int) -> F64:
    """float64 (replays, audits) of 0 and 1."""
    rng = np.random.default_rng([19, len(population.differ)])
    return population.differ[rng.integers(0, len(population.differ), (replays, audits))].astype(np.float64)


def replay(population: Population, replays: int, audits: int) -> dict[str, Any]:
    """How often the bound in use holds at all times, and how large it is after 2,000 audits."""
    xs, rate = draws(population, replays, audits), np.full(replays, population.rate)
    failed = (mixture(xs, rate) >= math.log(1 / ALPHA)).any(axis=1)
    bounds = np.array([MeanSequence.of_counts(AT, float(row[:AT].sum())).upper(ALPHA) for row in xs])
    return {
        "pair": population.pair,
        "exit_ratio": population.exit_ratio,
        "rate": population.rate,
        "drop": population.drop,
        "held": float(1 - failed.mean()),
        "mean": float(bounds.mean()),
        "largest": float(bounds.max()),
        "within": float((bounds <= 2 * population.rate + 0.005).mean()),
    }


# Log-wealth (R, N) against "the mean is m or more" after each of N audits, for R replays with an m each.


def mixture(xs: F64, m: F64) -> F64:
    """The stakes that `pilotfish serve` has."""
    n, found = np.arange(1, xs.shape[1] + 1), np.full(xs.shape, -np.inf)
    sums = np.cumsum(xs, axis=1)
    for stake, weight in zip(STAKES, LOG_WEIGHTS, strict=True):
        won = weight + sums * math.log1p(-stake) - n * np.log1p(-stake * m)[:, None]
        np.logaddexp(found, won, out=found)
    return found


def _before(xs: F64) -> tuple[F64, F64]:
    """Mean and variance as they are known before each audit."""
    i = np.arange(1, xs.shape[1] + 1)
    mean = (0.5 + np.cumsum(xs, axis=1)) / (i + 1)
    variance = (0.25 + np.cumsum((xs - mean) ** 2, axis=1)) / (i + 1)
    first = np.ones((len(xs), 1))
    return np.hstack([0.5 * first, mean[:, :-1]]), np.hstack([0.25 * first, variance[:, :-1]])


def _wealth(xs: F64, m: F64, bets: F64) -> F64:
    bets = np.clip(bets, 0.0, CLIP / (1 - m)[:, None])
    return np.cumsum(np.log1p(-bets * (xs - m[:, None])), axis=1)


def predictable(xs: F64, m: F64, alpha: float = ALPHA) -> F64:
    """The paper's predictable plug-in, its equation 15 at unknown n."""
    t = np.arange(1, xs.shape[1] + 1)
    return _wealth(xs, m, np.sqrt(2 * math.log(1 / alpha) / (_before(xs)[1] * t * np.log1p(t))))


def tuned(xs: F64, m: F64) -> F64:
    """As for a fixed n of 2,000, the certificate's bets (methods 5.1)."""
    return _wealth(xs, m, np.sqrt(2 * math.log(1 / ALPHA) / (_before(xs)[1] * AT)))


def kelly(xs: F64, m: F64) -> F64:
    """Approximate growth-rate adaptive bets (aGRAPA)."""
    mean, variance = _before(xs)
    gap = m[:, None] - mean
    return _wealth(xs, m, gap / (variance + gap**2))


def hedged(xs: F64, m: F64) -> F64:
    """The upper side of the hedged capital: half of the wealth bets on it."""
    return predictable(xs, m, ALPHA / 2) + math.log(0.5)


METHODS: dict[str, Callable[[F64, F64], F64] | None] = {
    "mixture of stakes (in use)": mixture,
    "predictable plug-in": predictable,
    "hedged": hedged,
    "aGRAPA": kelly,
    "tuned to 2,000 audits": tuned,
    "Clopper-Pearson for one n": None,
}


def compare(
    population: Population, method: Callable[[F64, F64], F64] | None, replays: int, audits: int
) -> tuple[float, float]:
    """(share of replays in which a bound failed at some time, its mean after 2,000 audits)."""
    xs, rate = draws(population, replays, audits), population.rate
    if method is None:
        n, sums = np.arange(1, audits + 1), np.cumsum(xs, axis=1)
        bounds = np.where(sums < n, betaincinv(sums + 1, np.maximum(n - sums, 1e-9), 1 - ALPHA), 1.0)
        return float((bounds < rate).any(axis=1).mean()), float(bounds[:, AT - 1].mean())
    enough = math.log(1 / ALPHA)
    failed = (method(xs, np.full(replays, rate)) >= enough).any(axis=1)
    low, high = np.zeros(replays), np.full(replays, 0.5)
    for _ in range(14):
        middle = (low + high) / 2
        rejected = method(xs[:, :AT], middle)[:, -1] >= enough
        low, high = np.where(rejected, low, middle), np.where(rejected, middle, high)
    return float(failed.mean()), float(high.mean())


def timed() -> str:
    """What an audit and a look at the bound take."""
    audit, n = Audit(1.0, seed=0), 20_000
    began = time.perf_counter()
    for _ in range(n):
        audit.began()
        audit.add(0.0)
    added = (time.perf_counter() - began) / n
    began = time.perf_counter()
    for _ in range(50):
        audit.began()
        audit.add(0.0)
        _ = audit.bound
    looked = (time.perf_counter() - began) / 50 - added
    return f"an audit takes {1e6 * added:.0f} µs, a new bound {1e6 * looked:.0f} µs"


if __name__ == "__main__":
    main()
