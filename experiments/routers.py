"""Routers against the saver's own confidence, at equal total cost (TinySaver, Eq. 2-5).

    python experiments/routers.py

Saver ResNet-10, base ResNet-34, both narrow, on Fashion-MNIST. The routers are trained on val, which neither model has
seen, and everything is judged on test by its own curve there: what separates the ways is the score and its cost.

prior router  sees the picture first; cost r (C_Rt + C_S) + (1 - r) (C_Rt + C_B), Eq. 2
evaluator     sees the saver's last features; cost C_S + C_E + (1 - r) C_B, Eq. 4
confidence    cost C_S + (1 - r) C_B, Eq. 1; ``learned`` is Pilotfish's score from the saver's outputs, fitted on val
"""

from __future__ import annotations

import json

import numpy as np
from common import fashion_mnist, options, recorded, run_of, say
from judge import cascade, macs, spread
from zoo import train

from pilotfish.cli.output import progress_bars
from pilotfish.plan.analysis.breakeven import evaluator_cost, pair_cost, router_cost
from pilotfish.plan.sweep import sweep
from pilotfish.train import load_recipe, train_router

SAVER, BASE = "resnet10", "resnet34"
TINY = {"in_chans": 1, "channels": [4, 8, 8, 16], "stem_width": 4}
ROUTERS = {
    "prior, hidden layer": {"kind": "prior", "encoder": "small:mlp", "arguments": {"side": 28, "width": 64}},
    "prior, small ResNet": {"kind": "prior", "encoder": "timm:resnet10t", "arguments": TINY},
    "evaluator": {"kind": "evaluator"},
}
DROPS = (0.0, 0.002, 0.005, 0.01)
COSTS = (0.3, 0.4, 0.5, 0.6)  # total, as a share of the base's


def main() -> None:
    """Train the routers and read every way off its curve."""
    given = options(__doc__).parse_args()
    parts, rows = fashion_mnist(given.data), []
    for seed in given.seeds:
        saver, base = (f"exits:{train(name, given.work, parts, seed).file}" for name in (SAVER, BASE))
        run = run_of(given.work, seed)
        with progress_bars() as progress:
            for title, how in ROUTERS.items():
                name = title.replace(", ", "-").replace(" ", "-").lower()
                found = train_router(
                    *(saver, base, parts.val, given.work / f"seed{seed}" / name),
                    recipe=load_recipe("router", {"epochs": 15}),
                    **{"seed": seed, "progress": progress, **how},
                )
                recorded(given.work, parts, seed, f"exits:{found.file}", name)
                rows += _curve(run, name, title, seed)
        for score in ("max_prob", "learned"):
            rows += _curve(run, SAVER, f"confidence: {score}", seed, score)
    _table(rows)
    if given.out:
        given.out.write_text(json.dumps(rows))


def _curve(run, name, title, seed, score="max_prob"):  # type: ignore[no-untyped-def]
    """Exit ratio and cost at each drop, drop at each cost, and the share of the oracle's order (AUROC of need)."""
    test = cascade(run, (name, BASE), score).test
    C_S, C_B = macs(run, SAVER), macs(run, BASE)
    own = run.read(name, "test").meta.costs.get("head_macs", 0.0) if name != SAVER else 0.0
    path = sweep(test.values[0], test.right[0], test.right[1])
    r, drop = path.exited / path.n, -path.gain / path.n
    if title.startswith("prior"):
        cost = np.array([router_cost(x, own, C_S, C_B) for x in r.tolist()])
    elif title == "evaluator":
        cost = np.array([evaluator_cost(x, own, C_S, C_B) for x in r.tolist()])
    else:
        cost = np.array([pair_cost(x, C_S, C_B) for x in r.tolist()])
    at_drop = {f"{d}": min((float(c / C_B) for c in cost[drop <= d + 1e-12]), default=None) for d in DROPS}
    at_cost = {f"{c}": float(drop[cost <= c * C_B].min()) if (cost <= c * C_B).any() else None for c in COSTS}
    needed = test.right[1] & ~test.right[0]
    order = np.argsort(np.argsort(test.values[0]))
    n, m = needed.sum(), (~needed).sum()
    auroc = float((order[~needed].sum() - m * (m - 1) / 2) / (n * m))
    return [{"way": title, "seed": seed, "own": own / C_B, "auroc": auroc, "at_drop": at_drop, "at_cost": at_cost}]


def _table(rows) -> None:  # type: ignore[no-untyped-def]
    ways = list(dict.fromkeys(r["way"] for r in rows))
    say("total cost, % of the base's, at a drop on test of")
    say(f"{'':26}{'own cost':>10}{'AUROC':>16}" + "".join(f"{d:>16.1%}" for d in DROPS))
    for way in ways:
        mine = [r for r in rows if r["way"] == way]
        cells = [spread([r["at_drop"][f"{d}"] for r in mine], digits=1) for d in DROPS]
        head = f"{way:26}{np.mean([r['own'] for r in mine]):10.2%}{spread([r['auroc'] for r in mine], 1, 3):>16}"
        say(head + "".join(f"{c:>16}" for c in cells))
    say("\ndrop on test, points, at a total cost (share of the base's) of")
    say(f"{'':26}" + "".join(f"{c:>16.0%}" for c in COSTS))
    for way in ways:
        mine = [r for r in rows if r["way"] == way]
        cells = [
            "-" if any(r["at_cost"][f"{c}"] is None for r in mine) else spread([r["at_cost"][f"{c}"] for r in mine])
            for c in COSTS
        ]
        say(f"{way:26}" + "".join(f"{c:>16}" for c in cells))


if __name__ == "__main__":
    main()
