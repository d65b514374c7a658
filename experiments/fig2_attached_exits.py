"""TinySaver's Fig. 2: exits attached to a large network against independent small networks of equal cost.

    python experiments/fig2_attached_exits.py --plot fig2.png

Base: a narrow ResNet-34. Exits read its three inner stages: heads on the frozen base (linear, and with a hidden layer),
and the whole trained jointly. Beside them ResNet-10 and two ResNet-18, trained alone with the same recipe; between
their costs accuracy is interpolated in log MACs.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from common import fashion_mnist, options, run_of, say
from judge import accuracy, macs, spread
from zoo import train

ALONE = ("resnet10", "resnet18-narrow", "resnet18", "resnet34")
ATTACHED = {
    "frozen base, linear heads": "resnet34-exits",
    "frozen base, hidden layer": "resnet34-mlp-exits",
    "trained jointly": "resnet34-joint",
}


def main() -> None:
    """Train what is missing, and compare."""
    parser = options(__doc__)
    parser.add_argument("--plot", type=Path)
    given = parser.parse_args()
    parts, rows = fashion_mnist(given.data), []
    for seed in given.seeds:
        for name in (*ALONE, *ATTACHED.values()):
            train(name, given.work, parts, seed)
        run = run_of(given.work, seed)
        alone = [(macs(run, name), accuracy(run, name)) for name in ALONE]
        at, right = np.array(alone).T
        for way, name in ATTACHED.items():
            for k in range(1, 5):
                cost, own = macs(run, f"{name}#{k}"), accuracy(run, f"{name}#{k}")
                equal = float(np.interp(np.log(cost), np.log(at), right))
                rows.append({"seed": seed, "way": way, "exit": k, "macs": cost, "accuracy": own, "alone": equal})
        rows += [{"seed": seed, "way": "alone", "exit": 0, "macs": m, "accuracy": a} for m, a in alone]
    say(f"{'':28}{'exit':>5}{'MMACs':>8}{'accuracy, %':>16}{'alone, equal MACs':>20}{'difference':>16}")
    for way in ATTACHED:
        for k in range(1, 5):
            mine = [r for r in rows if (r["way"], r["exit"]) == (way, k)]
            texts = [spread([f(r) for r in mine]) for f in (_own, _equal, lambda r: r["accuracy"] - r["alone"])]
            say(f"{way:28}{k:5}{mine[0]['macs'] / 1e6:8.2f}{texts[0]:>16}{texts[1]:>20}{texts[2]:>16}")
    for m in sorted({r["macs"] for r in rows if r["way"] == "alone"}):
        found = [r["accuracy"] for r in rows if r["way"] == "alone" and r["macs"] == m]
        say(f"{'alone':28}{'':5}{m / 1e6:8.2f}{spread(found):>16}")
    if given.plot:
        _plot(rows, given.plot)
    if given.out:
        given.out.write_text(json.dumps(rows, indent=1))


def _own(row: dict[str, float]) -> float:
    return row["accuracy"]


def _equal(row: dict[str, float]) -> float:
    return row["alone"]


def _plot(rows: list[dict[str, float]], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    for way in ("alone", *ATTACHED):
        mine = [r for r in rows if r["way"] == way]
        at = sorted({r["macs"] for r in mine})
        found = [[100 * r["accuracy"] for r in mine if r["macs"] == m] for m in at]
        axes.errorbar(
            np.array(at) / 1e6,
            [np.mean(f) for f in found],
            [np.std(f, ddof=1) if len(f) > 1 else 0 for f in found],
            marker="o",
            markersize=4,
            capsize=3,
            linewidth=2 if way == "alone" else 1.2,
            color="black" if way == "alone" else None,
            label="independent networks" if way == "alone" else f"exits: {way}",
        )
    axes.set(xlabel="million multiply-adds", ylabel="test accuracy, %", xscale="log")
    axes.set_xticks([0.5, 1, 2, 5], ["0.5", "1", "2", "5"])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
