"""TinySaver's Table 3: the exit sequence network against the plain pair with the same saver.

    python experiments/table3_esn.py

Saver ResNet-10 (0.58 MMACs) and base ResNet-34 (5.32 MMACs), both narrow, on Fashion-MNIST. The grid of dimensions and
attention layers is searched on the first seed with short trainings; the best is trained as Table 7 says, on all seeds.
Policies are chosen on val and judged on test, by the exact sweep and by DyCE for both.

Recipes: ``own`` moves and mirrors pictures as the saver's and the base's training did, batches of 128; ``table7`` is
the paper's (AutoAugment, mixup, cutmix, batches of 512), made for ImageNet. The grid is searched with ``own``.
"""

from __future__ import annotations

import json

import numpy as np
from common import fashion_mnist, options, recorded, run_of, say
from judge import Budget, accuracy, cascade, macs, spread
from zoo import STAGES, train

from pilotfish.cli.output import progress_bars
from pilotfish.errors import PilotfishError
from pilotfish.files import read_json
from pilotfish.train import load_recipe, train_esn

SAVER, BASE = "resnet10", "resnet34"
DIMS, ATTENTION = (8, 32, 128), (0, 1, 2)
RECIPES = {
    "own": {"batch_size": 128, "auto_augment": False, "mixup": 0.0, "cutmix": 0.0, "crop": 2, "flip": True},
    "table7": {},
}
DROPS = (0.0, 0.001, 0.005, 0.01)


def main() -> None:
    """Train, choose, judge."""
    parser = options(__doc__)
    parser.add_argument("--grid-epochs", type=int, default=3)
    parser.add_argument("--recipes", nargs="+", default=list(RECIPES), choices=list(RECIPES))
    given = parser.parse_args()
    parts, rows = fashion_mnist(given.data), []
    chosen: tuple[int, int] | None = None
    for seed in given.seeds:
        saver, base = (f"exits:{train(name, given.work, parts, seed).file}" for name in (SAVER, BASE))
        folder = given.work / f"seed{seed}"
        with progress_bars() as progress:
            if chosen is None:
                short = load_recipe("esn", {**RECIPES["own"], "epochs": given.grid_epochs})
                best = train_esn(
                    *(saver, base, parts.train, folder / "esn-grid"),
                    layers=STAGES,
                    dims=DIMS,
                    attention=ATTENTION,
                    recipe=short,
                    held_out=parts.val,
                    seed=seed,
                    progress=progress,
                )
                joint = read_json(best.file.with_name("training.json"), PilotfishError)["description"]["joint"]
                chosen = joint["dim"], joint["layers"]
                say(f"grid: dim {chosen[0]}, {chosen[1]} attention layers; accuracy {best.accuracy}")
            for name in given.recipes:
                found = train_esn(
                    *(saver, base, parts.train, folder / f"esn-{name}"),
                    layers=STAGES,
                    dims=(chosen[0],),
                    attention=(chosen[1],),
                    recipe=load_recipe("esn", RECIPES[name]),
                    held_out=parts.val,
                    seed=seed,
                    progress=progress,
                )
                recorded(given.work, parts, seed, f"exits:{found.file}", f"esn-{name}")
        rows.append({"seed": seed, "bus": chosen, "recipes": {r: _compare(given.work, seed, r) for r in given.recipes}})
        say(f"seed {seed}: " + json.dumps({r: found["accuracy"] for r, found in rows[-1]["recipes"].items()}))
    for name in given.recipes:
        say(f"\nrecipe: {name}")
        _table([{"seed": r["seed"], **r["recipes"][name]} for r in rows])
    if given.out:
        given.out.write_text(json.dumps(rows, indent=1))


def _compare(work, seed, recipe):  # type: ignore[no-untyped-def]
    run = run_of(work, seed)
    exits = [f"esn-{recipe}#{k}" for k in range(1, len(STAGES) + 3)]
    base = macs(run, BASE)
    ways = {
        "plain pair, sweep": (cascade(run, (SAVER, BASE)), "sweep"),
        "plain pair, DyCE": (cascade(run, (SAVER, BASE)), "dyce"),
        "ESN, sweep": (cascade(run, exits), "sweep"),
        "ESN, DyCE": (cascade(run, exits), "dyce"),
    }
    costs = {
        f"{way}, {drop:.1%}": None
        if (one := c.judged(c.path(method, budget), budget)) is None
        else (one[1], one[2] / base)
        for way, (c, method) in ways.items()
        for drop in DROPS
        for budget in [Budget("max_drop", drop)]
    }
    return {"accuracy": [accuracy(run, name) for name in exits], "macs": [macs(run, e) for e in exits], "ways": costs}


def _table(rows) -> None:  # type: ignore[no-untyped-def]
    say(
        "test accuracy of saver, exits, base: "
        + ", ".join(spread(a) for a in zip(*(r["accuracy"] for r in rows), strict=True))
    )
    say("MMACs: " + ", ".join(f"{m / 1e6:.2f}" for m in rows[0]["macs"]))
    say(f"{'asked of val':40}{'drop on test, points':>24}{'cost, % of the base':>24}")
    for way in rows[0]["ways"]:
        found = [r["ways"][way] for r in rows if r["ways"][way] is not None]
        drops, costs = np.array(found).T if found else (np.array([np.nan]),) * 2
        say(f"{way:40}{spread(drops.tolist()):>24}{spread(costs.tolist(), digits=1):>24}")


if __name__ == "__main__":
    main()
