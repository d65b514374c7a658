"""PCEE: which accuracy is reached when delta is asked for.

    python experiments/pcee_control.py

An MSDNet and a small vision transformer with four exits each, on Fashion-MNIST. One delta for all exits: a sample exits
where its estimated accuracy is at least delta, by the confidence itself, the temperature-scaled confidence, a
reliability diagram (PCEE), a smoothed one (PCEE-WS), or a smoothed one of the samples that are left (survivors).
Fitted on val, judged on test. An exit where everybody's estimate is at least delta has a mean above it; with ``mean``,
which is Pilotfish's own, the exits' mean is delta. ``certified`` asks for the same accuracy of the whole cascade, with
90 % certainty: the path of PCEE-WS is fitted on one half of val and tested on the other.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from common import fashion_mnist, options, run_of, say
from judge import Cascade, cascade
from zoo import train

from pilotfish.plan.certificate import Promise
from pilotfish.plan.certificate.certify import last_kept
from pilotfish.plan.methods import METHODS, PceeOptions, PceeWsOptions
from pilotfish.plan.methods.pcee import exit_sets
from pilotfish.plan.path import route
from pilotfish.scores import from_shown

NETWORKS = {"MSDNet": "msdnet", "ViT": "vit-8-exits"}
DELTAS = np.round(np.arange(0.70, 0.96, 0.005), 3)
WAYS: dict[str, Any] = {
    "confidence": "max_prob",
    "temperature": "temperature",
    "PCEE": PceeOptions(),
    "PCEE-WS": PceeWsOptions(),
    "PCEE-WS, survivors": PceeWsOptions(diagram="survivors"),
    "PCEE-WS, mean": PceeWsOptions(control="mean"),
    "the same, survivors": PceeWsOptions(control="mean", diagram="survivors"),
}
CERTIFIED = "certified, 90 %"


def main() -> None:
    """Judge every way at every delta."""
    given = options(__doc__).parse_args()
    parts, rows = fashion_mnist(given.data), []
    for title, name in NETWORKS.items():
        for seed in given.seeds:
            train(name, given.work, parts, seed)
            run = run_of(given.work, seed)
            stages = [f"{name}#{k}" for k in range(1, 5)]
            by_score = {score: cascade(run, stages, score) for score in ("max_prob", "temperature")}
            for way, how in WAYS.items():
                found = by_score[how if isinstance(how, str) else "max_prob"]
                rows += [{"network": title, "seed": seed, "way": way, **_at(found, how, float(d))} for d in DELTAS]
            rows += [{"network": title, "seed": seed, "way": CERTIFIED, **r} for r in _certified(by_score["max_prob"])]
    _table(rows)
    if given.out:
        given.out.write_text(json.dumps(rows))


def _at(found: Cascade, how: Any, delta: float) -> dict[str, Any]:
    policy = (
        tuple((float(from_shown(scale, delta)),) for scale in found.val.scales)
        if isinstance(how, str)
        else exit_sets(found.val, delta, how)
    )
    return {"delta": delta, **_outcome(found, policy)}


def _outcome(found: Cascade, policy: Any) -> dict[str, Any]:
    """Accuracy of the whole and of the early exits on test, and the cost as a share of the last exit's."""
    test = found.test
    by = route(test, policy)
    right = test.right[by, np.arange(len(test))]
    early = by < test.stages - 1
    cost = float(test.through[by].mean() / test.whole)
    last = float(test.base_right.mean())
    return {
        "accuracy": float(right.mean()),
        "exits": float(right[early].mean()) if early.sum() >= 50 else None,
        "early": float(early.mean()),
        "cost": cost,
        "last": last,
    }


def _certified(found: Cascade) -> list[dict[str, Any]]:
    """The furthest policy whose accuracy is at least delta with certainty 0.9, for each delta that allows one."""
    order = np.random.default_rng(0).permutation(len(found.val))
    fit, test = (found.val.take(np.sort(part)) for part in np.array_split(order, 2))
    path = METHODS["pcee-ws"].path(fit, None, PceeWsOptions())  # type: ignore[arg-type]
    rows = []
    for delta in DELTAS.tolist():
        kept = last_kept(test, path, Promise("accuracy", delta, 0.1, "exact"))
        if kept is not None:
            rows.append({"delta": delta, **_outcome(found, path.policy(kept))})
    return rows


def _table(rows: list[dict[str, Any]]) -> None:
    """Errors in points over the deltas that bind: above the first exit's own accuracy, at most the last exit's."""
    for network in NETWORKS:
        mine = [r for r in rows if r["network"] == network]
        ceiling = min(r["last"] for r in mine)
        say(f"\n{network}: the last exit's accuracy is {100 * np.mean([r['last'] for r in mine]):.2f} %")
        say(
            f"{'':22}{'early exits - delta':>22}{'|.|':>7}{'whole - delta':>16}{'|.|':>7}"
            f"{'below':>8}{'cost':>8}{'deltas':>8}"
        )
        for way in (*WAYS, CERTIFIED):
            all_ = [r for r in mine if r["way"] == way]
            exits = np.array(
                [r["exits"] - r["delta"] for r in all_ if r["exits"] is not None and 0.02 < r["early"] < 0.98]
            )
            reach = [r for r in all_ if r["delta"] <= ceiling and r["early"] < 0.98]
            whole = np.array([r["accuracy"] - r["delta"] for r in reach])
            if not len(whole):
                say(f"{way:22}{'no delta binds':>22}")
                continue
            cost = np.mean([r["cost"] for r in reach])
            early = f"{100 * exits.mean():+.2f}", f"{100 * np.abs(exits).mean():.2f}"
            say(
                f"{way:22}{early[0]:>22}{early[1]:>7}{100 * whole.mean():+16.2f}{100 * np.abs(whole).mean():7.2f}"
                f"{np.mean(whole < 0):8.0%}{cost:8.0%}{len(reach):8}"
            )
    say("\nat delta = last exit's accuracy - 1 point, rounded down: accuracy - delta in points, cost")
    for network in NETWORKS:
        mine = [r for r in rows if r["network"] == network]
        delta = float(np.floor(100 * min(r["last"] for r in mine) - 1) / 100)
        for way in (*WAYS, CERTIFIED):
            at = [r for r in mine if r["way"] == way and abs(r["delta"] - delta) < 1e-9]
            if at:
                gap = [100 * (r["accuracy"] - delta) for r in at]
                spent = np.mean([r["cost"] for r in at])
                low, high = min(gap), max(gap)
                say(f"{network:8}{delta:.2f} {way:22}{np.mean(gap):+8.2f} ({low:+.2f} … {high:+.2f}){spent:8.0%}")


if __name__ == "__main__":
    main()
