"""PCEE's headline: a large network with exits against smaller full networks of equal cost.

    python experiments/pcee_headline.py

The large network's exits are set on val by PCEE-WS and by the exact methods for the smaller one's cost, and judged on
test; the smaller network is run in full.
"""

from __future__ import annotations

import json

import numpy as np
from common import fashion_mnist, options, run_of, say
from judge import Budget, accuracy, cascade, macs, spread
from zoo import train

PAIRS = (
    ("vit-8-exits", "vit-4"),
    ("resnet34-joint", "resnet18-narrow"),
    ("resnet34-joint", "resnet18"),
)
WAYS = ("pcee", "pcee-ws", "dyce")


def main() -> None:
    """Choose for each smaller network's cost, and compare."""
    parser = options(__doc__)
    parser.add_argument("--only", default="", help="beginning of the large network's name")
    given = parser.parse_args()
    pairs = [pair for pair in PAIRS if pair[0].startswith(given.only)]
    parts, rows = fashion_mnist(given.data), []
    for large, small in pairs:
        for seed in given.seeds:
            for name in (large, small):
                train(name, given.work, parts, seed)
            run = run_of(given.work, seed)
            found, cost = cascade(run, [f"{large}#{k}" for k in range(1, 5)]), macs(run, small)
            full = accuracy(run, small)
            for way in WAYS:
                one = found.judged(found.path(way, budget := Budget("max_cost", cost)), budget)
                if one is None:
                    first = macs(run, f"{large}#1")
                    say(f"seed {seed}: {large} cannot cost {cost:.3g}; its first exit costs {first:.3g}")
                    continue
                rows.append(
                    {"large": large, "small": small, "seed": seed, "way": way, "accuracy": one[0], "cost": one[2]}
                    | {"full": full, "full_cost": cost, "last": float(found.test.base_right.mean())}
                )
    say(
        f"{'large, with exits':18}{'small, in full':18}{'way':10}{'MMACs':>8}"
        f"{'accuracy, %':>16}{'small, %':>16}{'difference':>16}"
    )
    for large, small in pairs:
        for way in WAYS:
            mine = [r for r in rows if (r["large"], r["small"], r["way"]) == (large, small, way)]
            if mine:
                own, full = [r["accuracy"] for r in mine], [r["full"] for r in mine]
                gap = spread([a - b for a, b in zip(own, full, strict=True)])
                cost = np.mean([r["cost"] for r in mine]) / 1e6
                say(f"{large:18}{small:18}{way:10}{cost:8.2f}{spread(own):>16}{spread(full):>16}{gap:>16}")
    if given.out:
        given.out.write_text(json.dumps(rows))


if __name__ == "__main__":
    main()
