"""DyCE, MSDNet's thresholds, PCEE and the exact sweep on the same records: accuracy at equal cost.

    python experiments/paths.py

The four exits of an MSDNet, of a small vision transformer and of a narrow ResNet-34, on Fashion-MNIST. Every path is
fitted on val; for each budget val chooses a policy of it, and test judges.
"""

from __future__ import annotations

import json

import numpy as np
from common import fashion_mnist, options, run_of, say
from judge import Budget, cascade
from zoo import train

NETWORKS = {"MSDNet": "msdnet", "ViT": "vit-8-exits", "ResNet-34": "resnet34-joint"}
BUDGETS = (0.3, 0.35, 0.4, 0.5, 0.6, 0.7)
WAYS = {
    "DyCE, one pass": ("dyce", {}),
    "DyCE, iterative": ("dyce", {"search": "iterative"}),
    "MSDNet's q": ("msdnet", {}),
    "PCEE": ("pcee", {}),
    "PCEE-WS": ("pcee-ws", {}),
    "PCEE-WS, survivors": ("pcee-ws", {"diagram": "survivors"}),
    "sweep": ("sweep", {}),
}


def main() -> None:
    """Fit, choose and judge."""
    given = options(__doc__).parse_args()
    parts, rows = fashion_mnist(given.data), []
    for title, name in NETWORKS.items():
        for seed in given.seeds:
            train(name, given.work, parts, seed)
            found = cascade(run_of(given.work, seed), [f"{name}#{k}" for k in range(1, 5)])
            for share in BUDGETS:
                budget = Budget("max_cost", share * found.val.whole)
                for way, (method, more) in WAYS.items():
                    one = found.judged(found.path(method, budget, **more), budget)
                    if one is not None:
                        rows.append(
                            {"network": title, "seed": seed, "budget": share, "way": way, "accuracy": one[0]}
                            | {"drop": one[1], "cost": one[2] / found.test.whole}
                        )
    for title in NETWORKS:
        say(f"\n{title}: drop on test in points (its cost) for budgets as shares of the last exit's cost")
        say(f"{'':22}" + "".join(f"{share:>16.0%}" for share in BUDGETS))
        for way in WAYS:
            cells = []
            for share in BUDGETS:
                mine = [r for r in rows if (r["network"], r["way"], r["budget"]) == (title, way, share)]
                drop, cost = (np.mean([r[key] for r in mine]) if mine else np.nan for key in ("drop", "cost"))
                cells.append(f"{100 * drop:+.2f} ({cost:.0%})" if len(mine) == len(given.seeds) else "-")
            say(f"{way:22}" + "".join(f"{cell:>16}" for cell in cells))
    if given.out:
        given.out.write_text(json.dumps(rows))


if __name__ == "__main__":
    main()
