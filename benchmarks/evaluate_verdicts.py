"""How often does ``evaluate`` say what is so? Many draws from public predictions, judged against all of them.

    python benchmarks/evaluate_verdicts.py --data ../shared/data

A pair is tuned on some of CIFAR-10's test samples; the others are the population, of which the drop is known. Each draw
takes n of them with replacement. Where the limit is the population's own drop, "broken" is wrong and may come up in 5 %
of the draws; where it is two points below, "broken" is right; where it is two points above, "holds" is. A shift is
never right: the draws are of the samples that the pair was tuned for.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from public_data import cifar

from pilotfish.cascade import Artefact
from pilotfish.plan import tune
from pilotfish.plan.certificate import LEVEL, Promise
from pilotfish.plan.certificate.hindsight import both_ways
from pilotfish.plan.check_promise import policy_of
from pilotfish.plan.evaluate import count, evaluate
from pilotfish.plan.shift import notes_on_shift
from pilotfish.plan.trace import Trace, make_trace
from pilotfish.records import Run, align

TUNED_ON = 2000
AWAY = 0.02
PAIRS = (
    ("wrn16_4", "wrn_28_10", 0.01),
    ("wrn16_4", "shake_shake_26_2x64d_SSI_cutout16", 0.02),
    ("lenet5", "wrn16_4", 0.05),
)


@dataclass(frozen=True)
class Setting:
    """A cascade, and the population that it is asked about."""

    artefact: Artefact
    trace: Trace
    classes: np.ndarray
    drop: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with the public predictions")
    parser.add_argument("--draws", type=int, default=300)
    parser.add_argument("--samples", type=int, nargs="+", default=[500, 2000, 5000])
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    allowed = 0.05 + 2 * math.sqrt(0.05 * 0.95 / options.draws)
    print(f"at the limit broken may come up in {allowed:.1%} of {options.draws} draws\n")
    print("saver -> base, drop of the population | n | broken at the limit | broken 2 over | holds 2 under | shifts")
    worst = 0.0
    for saver, base, asked in PAIRS:
        one = setting(options.data, saver, base, asked)
        for n in options.samples:
            found = verdicts(one, n, options.draws, options.seed)
            worst = max(worst, found["wrong"])
            shares = " | ".join(f"{found[what]:.1%}" for what in ("wrong", "broken", "holds", "shift"))
            print(f"{saver} -> {base}, {100 * one.drop:.2f} points | {n:,} | {shares}", flush=True)
    print(f"\nmost of the wrong ones: {worst:.1%}, allowed {allowed:.1%}")


def setting(data: Path, saver: str, base: str, asked: float) -> Setting:
    """A pair, tuned on the first samples of a random order, and the others."""
    task = cifar(data, 10)
    records = [task.records[name] for name in (saver, base)]
    order = np.random.default_rng(0).permutation(len(records[0]))
    with tempfile.TemporaryDirectory() as folder:
        run = Run(Path(folder))
        for one in records:
            run.write(replace(one.take(order[:TUNED_ON]), meta=replace(one.meta, split="val")))
        artefact = tune(run, (saver, base), max_drop=asked).artefact
    table = align([records[0].take(order[TUNED_ON:])], records[1].take(order[TUNED_ON:]))
    trace = make_trace(table, (saver, base), artefact.rule, artefact.scores, None, None)
    drop = evaluate(trace, policy_of(artefact).policy(0)).drop
    return Setting(artefact, trace, table.outputs[saver].prediction, drop)


def verdicts(one: Setting, n: int, draws: int, seed: int) -> dict[str, float]:
    """How often each verdict came up: ``wrong`` broken at the limit, ``broken`` and ``holds`` two points away, and how
    often a ``shift`` was noted."""
    rng, path, seen = np.random.default_rng([seed, n]), policy_of(one.artefact), Counter[str]()
    for _ in range(draws):
        rows = rng.integers(0, len(one.trace), n)
        drawn = one.trace.take(rows)
        counts = count(drawn, path)
        limits = (one.drop, one.drop - AWAY, one.drop + AWAY)
        at, over, under = (both_ways(drawn, path, counts, Promise("drop", limit, LEVEL)) for limit in limits)
        seen["wrong"] += at[0] <= LEVEL
        seen["broken"] += over[0] <= LEVEL
        seen["holds"] += under[1]
        seen["shift"] += bool(notes_on_shift(one.artefact, [(drawn.values[0], n)], one.classes[rows]))
    return {what: seen[what] / draws for what in ("wrong", "broken", "holds", "shift")}


if __name__ == "__main__":
    main()
