"""Three of the questions once more, on the 1,797 digits of scikit-learn, where everything trains in seconds.

    python experiments/digits.py

Each seed deals the digits out anew: 800 to train on, 450 to choose on, 547 to judge on. Base: small:convnet of width
32, with exits after its first three convolutions; beside it convnets of widths 2 to 16, trained alone by the same
recipe.

- attached exits (frozen base; trained jointly) against independent networks of equal cost (TinySaver, Fig. 2)
- the exit sequence network against the plain pair (TinySaver, Table 3)
- the joint network at the cost of smaller full ones (PCEE)
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from common import Parts, network, options, recorded, run_of, say
from judge import Budget, accuracy, cascade, macs, spread

from pilotfish.cli.output import progress_bars
from pilotfish.data import load_data
from pilotfish.data.subset import Subset
from pilotfish.train import Recipe, load_recipe, train_esn

SEEDS, TRAIN, CHOOSE = 10, 800, 450
WIDTHS, BASE, SAVERS = (2, 4, 8, 16), 32, (4, 8)
ALONE = [f"alone-{w}" for w in (*WIDTHS, BASE)]
LAYERS = ("2", "5", "8")
JOINT = Recipe(epochs=20, batch_size=32, learning_rate=3e-3, crop=1, freeze=False)
HEADS = Recipe(epochs=10, batch_size=32, learning_rate=5e-3, crop=1)
BUS = {"epochs": 10, "batch_size": 32, "auto_augment": False, "mixup": 0.0, "cutmix": 0.0, "crop": 1}
DROPS = (0.0, 0.005, 0.01)


def main() -> None:
    """Train, choose, judge."""
    parser = options(__doc__)
    parser.set_defaults(seeds=list(range(SEEDS)), work=Path("experiments/work/digits"))
    given = parser.parse_args()
    rows = [_one(given.work, seed) for seed in given.seeds]
    _exits(rows)
    _pairs(rows)
    _headline(rows)
    if given.out:
        given.out.write_text(json.dumps(rows, indent=1))


def _one(work: Path, seed: int) -> dict[str, Any]:
    """All networks of one seed, and what they come to on test."""
    digits = load_data("digits")
    order = np.random.default_rng(seed).permutation(len(digits))
    parts = Parts(*(Subset(digits, np.sort(rows)) for rows in np.split(order, [TRAIN, TRAIN + CHOOSE])))
    for width in (*WIDTHS, BASE):
        network(work, parts, f"alone-{width}", seed, "small:convnet", JOINT, arguments={"width": width})
    network(work, parts, "joint", seed, "small:convnet", JOINT, LAYERS, {"width": BASE})
    files = {w: f"exits:{work / f'seed{seed}' / f'alone-{w}' / 'network.safetensors'}" for w in (*SAVERS, BASE)}
    network(work, parts, "frozen", seed, files[BASE], HEADS, LAYERS)
    for width in SAVERS:
        with progress_bars() as progress:
            found = train_esn(
                *(files[width], files[BASE], parts.train, work / f"seed{seed}" / f"esn-{width}"),
                layers=LAYERS,
                dims=(32,),
                attention=(0,),
                recipe=load_recipe("esn", BUS),
                held_out=parts.val,
                seed=seed,
                progress=progress,
            )
        recorded(work, parts, seed, f"exits:{found.file}", f"esn-{width}")
    run, ways = run_of(work, seed), {}
    names = [*ALONE, *_exits_of("frozen", 4), *_exits_of("joint", 4)]
    for width in SAVERS:
        ways[f"plain pair, saver {width}"] = cascade(run, (f"alone-{width}", f"alone-{BASE}"))
        ways[f"ESN, saver {width}"] = cascade(run, _exits_of(f"esn-{width}", 5))
        names += _exits_of(f"esn-{width}", 5)
    known = {name: (macs(run, name), accuracy(run, name)) for name in names}
    joint = cascade(run, _exits_of("joint", 4))
    return {
        "networks": known,
        "pairs": {
            f"{way}, {drop:g}": c.judged(c.path("sweep", budget), budget)
            for way, c in ways.items()
            for drop in DROPS
            for budget in [Budget("max_drop", drop)]
        },
        "headline": {
            name: joint.judged(joint.path("pcee", budget), budget)
            for name in ALONE[:-1]
            for budget in [Budget("max_cost", known[name][0])]
        },
    }


def _exits(rows: list[dict[str, Any]]) -> None:
    """Attached exits beside independent networks, between whose costs accuracy is interpolated in log MACs."""
    say(f"{'':12}{'MMACs':>8}{'accuracy, %':>16}{'alone, equal MACs':>20}{'difference':>16}")
    for name in ALONE:
        cost = rows[0]["networks"][name][0] / 1e6
        say(f"{name:12}{cost:8.3f}{spread([r['networks'][name][1] for r in rows]):>16}")
    for name in (*_exits_of("frozen", 4), *_exits_of("joint", 4)):
        cost = rows[0]["networks"][name][0]
        own = [r["networks"][name][1] for r in rows]
        equal = [
            np.interp(np.log(cost), *np.array([(np.log(m), a) for m, a in [r["networks"][n] for n in ALONE]]).T)
            for r in rows
        ]
        gap = spread([a - b for a, b in zip(own, equal, strict=True)])
        say(f"{name:12}{cost / 1e6:8.3f}{spread(own):>16}{spread(equal):>20}{gap:>16}")


def _pairs(rows: list[dict[str, Any]]) -> None:
    """Drop and cost of exit sequences beside the plain pairs of the same savers."""
    for width in SAVERS:
        exits = [spread([r["networks"][name][1] for r in rows]) for name in _exits_of(f"esn-{width}", 5)]
        say(f"\nexit sequence of saver {width}, saver to base, accuracy: " + ", ".join(exits))
    say(f"{'asked of val':28}{'drop on test, points':>24}{'cost, % of the base':>24}")
    for way in rows[0]["pairs"]:
        found = [(r["pairs"][way], r["networks"][f"alone-{BASE}"][0]) for r in rows if r["pairs"][way] is not None]
        drops, costs = [one[1] for one, _ in found], [one[2] / base for one, base in found]
        say(f"{way:28}{spread(drops):>24}{spread(costs, digits=1):>24}")


def _headline(rows: list[dict[str, Any]]) -> None:
    """The joint network at the cost of each smaller one."""
    say(f"\n{'small, in full':16}{'MMACs':>8}{'small, %':>16}{'joint, PCEE, %':>16}{'difference':>16}")
    for name in rows[0]["headline"]:
        found = [r for r in rows if r["headline"][name] is not None]
        if not found:
            say(f"{name:16}{rows[0]['networks'][name][0] / 1e6:8.3f}  less than the joint network's first exit costs")
            continue
        full, own = [r["networks"][name][1] for r in found], [r["headline"][name][0] for r in found]
        gap = spread([a - b for a, b in zip(own, full, strict=True)])
        say(f"{name:16}{found[0]['networks'][name][0] / 1e6:8.3f}{spread(full):>16}{spread(own):>16}{gap:>16}")


def _exits_of(name: str, exits: int) -> list[str]:
    return [f"{name}#{k}" for k in range(1, exits + 1)]


if __name__ == "__main__":
    main()
