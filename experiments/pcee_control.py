"""PCEE: which accuracy is reached when delta is asked for.

    python experiments/pcee_control.py

An MSDNet and a small vision transformer with four exits each, on Fashion-MNIST. One delta for all exits: a sample exits
where its estimated accuracy is at least delta, by the confidence itself, the temperature-scaled confidence, a
reliability diagram (PCEE), a smoothed one (PCEE-WS), or a smoothed one of the samples that are left (survivors).
Fitted on one half of the held-out samples, judged on the other. An exit where everybody's estimate is at least delta
has a mean above it; with ``mean``, which is Pilotfish's own, the exits' mean is delta. ``certified`` asks for the same
accuracy of the whole cascade, with 90 % certainty: the path of PCEE-WS is fitted on one half of the samples for fitting
and tested on the other.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
from common import fashion_mnist, options, run_of, say
from judge import Budget, Cascade, cascade
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
            by_score = {score: _mixed(cascade(run, stages, score), seed) for score in ("max_prob", "temperature")}
            for way, how in WAYS.items():
                found = by_score[how if isinstance(how, str) else "max_prob"]
                rows += [{"network": title, "seed": seed, "way": way, **_at(found, how, float(d))} for d in DELTAS]
            rows += [{"network": title, "seed": seed, "way": CERTIFIED, **r} for r in _certified(by_score["max_prob"])]
    _table(rows)
    if given.out:
        given.out.write_text(json.dumps(rows))


def _mixed(found: Cascade, seed: int) -> Cascade:
    """The same with samples of both splits dealt out anew: Fashion-MNIST's test set is a point harder than its training
    set, and no calibration can know."""
    both = replace(
        found.val,
        values=np.concatenate([found.val.values, found.test.values], axis=1),
        right=np.concatenate([found.val.right, found.test.right], axis=1),
        base_right=np.concatenate([found.val.base_right, found.test.base_right]),
    )
    halves = np.array_split(np.random.default_rng(seed).permutation(len(both)), 2)
    return Cascade(*(both.take(np.sort(rows)) for rows in halves))


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
    first, last = float(test.right[0].mean()), float(test.base_right.mean())
    return {
        "accuracy": float(right.mean()),
        "exits": float(right[early].mean()) if early.sum() >= 50 else None,
        "early": float(early.mean()),
        "cost": cost,
        "first": first,
        "last": last,
    }


def _certified(found: Cascade) -> list[dict[str, Any]]:
    """For each delta the furthest policy whose accuracy is at least delta with certainty 0.9; where there is none, the
    last exit answers everything."""
    order = np.random.default_rng(0).permutation(len(found.val))
    fit, test = (found.val.take(np.sort(part)) for part in np.array_split(order, 2))
    path = METHODS["pcee-ws"].path(fit, Budget("max_drop", 0.0), PceeWsOptions())
    rows = []
    for delta in DELTAS.tolist():
        kept = last_kept(test, path, Promise("accuracy", delta, 0.1, "exact"))
        rows.append({"delta": delta, "certain": kept is not None, **_outcome(found, path.policy(kept or 0))})
    return rows


def _table(rows: list[dict[str, Any]]) -> None:
    """Means over the deltas from the first exit's accuracy to the last one's, the same for every way."""
    for network in NETWORKS:
        mine = [r for r in rows if r["network"] == network and r["first"] <= r["delta"] <= r["last"]]
        deltas = len({(r["seed"], r["delta"]) for r in mine})
        low, high = (100 * np.mean([r[key] for r in mine]) for key in ("first", "last"))
        say(
            f"\n{network}: {deltas} deltas from the first exit's accuracy, {low:.2f} %, to the last one's, {high:.2f} %"
        )
        say(
            f"{'':22}{'early exits - delta':>22}{'|.|':>7}{'whole - delta':>16}{'|.|':>7}{'below delta':>13}"
            f"{'drop':>8}{'cost':>7}"
        )
        for way in (*WAYS, CERTIFIED):
            own = [r for r in mine if r["way"] == way]
            exits = np.array([r["exits"] - r["delta"] for r in own if r["exits"] is not None])
            whole = np.array([r["accuracy"] - r["delta"] for r in own])
            drop, cost = (100 * np.mean([f(r) for r in own]) for f in (lambda r: r["last"] - r["accuracy"], _cost))
            early = (f"{100 * exits.mean():+.2f}", f"{100 * np.abs(exits).mean():.2f}") if len(exits) else ("-", "-")
            say(
                f"{way:22}{early[0]:>22}{early[1]:>7}{100 * whole.mean():+16.2f}{100 * np.abs(whole).mean():7.2f}"
                f"{np.mean(whole < 0):13.0%}{drop:+8.2f}{cost:6.0f}%"
            )
        certain = [r["certain"] for r in mine if r["way"] == CERTIFIED]
        say(f"certified: {np.mean(certain):.0%} of the deltas could be")


def _cost(row: dict[str, Any]) -> float:
    return float(row["cost"])


if __name__ == "__main__":
    main()
