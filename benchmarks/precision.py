"""What precision buys: each network in float32, bf16 and int8; the cascade of `build --precisions`; int8 → float32.

    python benchmarks/precision.py table --out table.json \\
        --of lite:efficientnet_lite2@260 folder:PHOTOS \\
        --of exits:vit/network.safetensors idx:t10k-images-idx3-ubyte.gz idx:train-images-idx3-ubyte.gz \\
        --of timm:resnet50?weights=random folder:PHOTOS
    python benchmarks/precision.py self --max-drop 0.5% 1% 2% --out self.json --of …
    pilotfish build --data folder:PHOTOS --model … --precisions int8,bf16,fp32 --max-drop 1% --out CASCADE
    python benchmarks/precision.py cascade CASCADE --data folder:PHOTOS --out cascade.json
    python benchmarks/precision.py train FASHION-MNIST --work networks     # the two networks on Fashion-MNIST

`--of NETWORK DATA [CALIBRATE]`: int8 is calibrated on CALIBRATE, else on 128 samples of DATA that are set aside and
neither tuned on, certified nor judged. A network whose name ends in ?weights=random is there for its times alone.
Records, int8 files and finished rows stay in --work and are used again (--again times anew). Everything that a row
compares ran in turn in one process: medians over runs, with least and largest.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from precision_cascade import CASCADE_COLUMNS, cascade_ratios, cascade_rows, time_cascade
from precision_parts import (
    Samples,
    Subject,
    accuracy,
    agreement,
    as_rows,
    as_table,
    engine_timer,
    in_turn,
    limits,
    prepared,
    ratio,
    run_here,
    shown,
    subject,
    variants,
)

import pilotfish
from pilotfish.cascade import InForce, OperatingPoint, Rule
from pilotfish.data import load_data
from pilotfish.errors import BudgetError, RecordsError
from pilotfish.files import read_json, write_json
from pilotfish.machine import BF16_PRODUCTS, INT8_PRODUCTS, describe_machine, processor
from pilotfish.report.format import percent
from pilotfish.runtime.spread import Spread
from pilotfish.scores import SCORES, ExitScore
from pilotfish.train import Recipe, train_exits

NOBODY = InForce(Rule(), (ExitScore(SCORES["max_prob"], "log_odds"),), OperatingPoint((float("inf"),)))
RECIPE = Recipe(batch_size=128, warm_up_epochs=0.5, crop=2, flip=True, freeze=False)
NETWORKS: dict[str, tuple[str, dict[str, Any], Recipe]] = {
    "resnet34": (
        "timm:resnet34",
        {"in_chans": 1, "channels": (32, 64, 128, 256)},
        replace(RECIPE, epochs=2, learning_rate=2e-3),
    ),
    "vit": (
        "timm:vit_tiny_patch16_224",
        {"img_size": 28, "patch_size": 7, "in_chans": 1, "embed_dim": 96, "num_heads": 3, "depth": 6},
        replace(RECIPE, epochs=3, learning_rate=1e-3, weight_decay=0.05, warm_up_epochs=1),
    ),
}


def main() -> None:
    """Print a table as Markdown, and write every figure as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    tables = parser.add_subparsers(dest="table", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--samples", type=int, default=256, help="that are timed")
    common.add_argument("--runs", type=int, default=7)
    common.add_argument("--seconds", type=float, default=20.0, help="about how long tune-runtime takes per stage")
    common.add_argument("--work", type=Path, default=Path("precision-work"))
    common.add_argument("--out", type=Path, help="JSON file with every figure")
    networks = argparse.ArgumentParser(add_help=False)
    networks.add_argument("--of", nargs="+", action="append", required=True, metavar=("NETWORK", "DATA"))
    networks.add_argument("--again", action="store_true", help="time what has been timed anew")
    one = tables.add_parser("table", parents=[networks, common])
    one.add_argument("--exit-ratio", type=float, nargs="+", default=[0.3, 0.6, 0.9])
    one = tables.add_parser("self", parents=[networks, common])
    one.add_argument("--max-drop", nargs="+", default=["0.5%", "1%", "2%", "3%"], help="the first that can be promised")
    one.add_argument("--guarantee", default="90%")
    one.add_argument("--seed", type=int, default=0)
    one = tables.add_parser("cascade", parents=[common])
    one.add_argument("cascade", type=Path, help="folder that build --precisions wrote")
    one.add_argument("--data", required=True)
    one.add_argument("--run", type=Path, help="records of its models; by default CASCADE-run, as build has it")
    one = tables.add_parser("train")
    one.add_argument("folder", type=Path, help="with Fashion-MNIST's four files")
    one.add_argument("--work", type=Path, default=Path("precision-work"))
    given = parser.parse_args()
    if given.table == "train":
        train(given.folder, given.work)
        return
    if given.table == "cascade":
        found = time_cascade(given.cascade, given.data, given.run, given.samples, given.runs, given.seconds, given.work)
        print(as_table(CASCADE_COLUMNS, cascade_rows(found)), "", *cascade_ratios(found), sep="\n")
        rows = [found]
    else:
        print(as_table(COLUMNS if given.table == "table" else SELF_COLUMNS, []))
        rows = [_row(given, *one) for one in given.of]
    known = BF16_PRODUCTS | INT8_PRODUCTS
    machine = {**describe_machine(), "flags": sorted(known & processor().flags)}
    print(json.dumps(machine))
    if given.out is not None:
        write_json(given.out, {"machine": machine, "rows": rows})


def _row(given: argparse.Namespace, network: str, data: str, calibrate: str | None = None) -> dict[str, Any]:
    """One network's figures, printed: measured, or as they were measured before with the same options."""
    make = table if given.table == "table" else self_cascade
    of = subject(network, data, calibrate, given.work)
    options = {key: value for key, value in vars(given).items() if key not in ("of", "out", "again", "work")}
    file = of.run / f"{given.table}.json"
    if given.again or not file.is_file() or read_json(file, RecordsError)["options"] != options:
        write_json(file, {"network": of.title, "data": of.judged.spec, "options": options, **make(of, given)})
    found = read_json(file, RecordsError)
    print(as_rows(table_rows(found) if make is table else [self_row(found)]), flush=True)
    return found


# --- each network in each precision --------------------------------------------------------------------------------

COLUMNS = ("network", "precision", "agreement", "ms", "gain", "efficiency as saver of float32, at exit ratios")


def table(of: Subject, given: argparse.Namespace) -> dict[str, Any]:
    """Agreement and time of each precision, and how close its cascade with float32 comes to the ideal."""
    names = variants(of, timing=False)
    stages = [*names[:0:-1], names[0]]  # float32 last
    tuning = pilotfish.tune(of.run, stages, max_drop=0.01, holdout=0, allow_bad_base=True)
    cascade = run_here(tuning, of.run / "all", given.seconds, of.judged)
    held = Samples.of(of.judged, [cascade.models[0].preprocessing], given.samples, cascade.reader(of.judged))
    n, inputs = len(held.rows), held.tensors[0]
    found = dict(zip(stages, cascade.engine_stages(), strict=True))
    timers = {name: engine_timer([stage], NOBODY, prepared([inputs]), n) for name, stage in found.items()}
    shares: dict[float, float] = {}
    for share in given.exit_ratio:
        forced = np.ones(n, np.int64)
        forced[np.random.default_rng(0).permutation(n)[: round(share * n)]] = 0
        shares[share] = float((forced == 0).mean())
        for name in stages[:-1]:
            pair = [found[name], found["float32"]]
            timers[f"{name} {share}"] = engine_timer(pair, NOBODY, prepared([inputs, inputs]), n, forced)
    ms = in_turn(timers, given.runs)

    def efficiency(name: str, share: float) -> Spread:
        ideal = [s + (1 - shares[share]) * b for s, b in zip(ms[name], ms["float32"], strict=True)]
        return ratio(ideal, ms[f"{name} {share}"])

    return {
        "samples": len(of.judged),
        "timed": n,
        "precisions": [
            {
                "precision": name,
                "agreement": None if of.fresh or name == "float32" else agreement(of, name),
                "ms": limits(Spread.of(ms[name])),
                "gain": limits(ratio(ms["float32"], ms[name])),
                "efficiency": {str(s): limits(efficiency(name, s)) for s in shares} if name != "float32" else {},
                "backend": cascade.choices[stages.index(name)].backend,
                "batch": cascade.choices[stages.index(name)].batch_size,
                "lanes": cascade.choices[stages.index(name)].lanes,
            }
            for name in names
        ],
    }


def table_rows(found: dict[str, Any]) -> list[list[str]]:
    """The cells of a row for each precision."""
    return [
        [
            "" if k else found["network"],
            f"{one['precision']} ({one['backend']})",
            "" if one["agreement"] is None else percent(one["agreement"]),
            shown(Spread(*one["ms"]), 3),
            f"**{shown(Spread(*one['gain']))}**" if k else "",
            " / ".join(f"{share}: {shown(Spread(*e), 3)}" for share, e in one["efficiency"].items()),
        ]
        for k, one in enumerate(found["precisions"])
    ]


# --- int8 as the saver of itself in float32 --------------------------------------------------------------------------

SELF_COLUMNS = (
    "network",
    "int8 alone: agreement, drop",
    "promised",
    "answered by int8",
    "drop on held-out samples",
    "int8, ms",
    "cascade, ms",
    "float32, ms",
    "float32 ÷ cascade",
    "so",
)


def self_cascade(of: Subject, given: argparse.Namespace) -> dict[str, Any]:
    """The cascade int8 → float32 at the first of the drops that can be promised, beside both of its ends."""
    variants(of, timing=True)
    refused = []
    for drop in given.max_drop:
        try:
            tuning = pilotfish.tune(
                of.run, ("int8", "float32"), max_drop=drop, guarantee=given.guarantee, cost="ms", seed=given.seed
            )
            break
        except BudgetError as error:
            refused.append(f"{drop}: {error}")
    else:
        return {"refused": refused}
    cascade = run_here(tuning, of.run / "self", given.seconds, of.judged)
    held = Samples.of(of.judged, [cascade.models[0].preprocessing], given.samples, cascade.reader(of.judged))
    n, inputs, stages = len(held.rows), held.tensors[0], cascade.engine_stages()
    in_force = cascade.artefact.in_force
    ms = in_turn(
        {
            "int8": engine_timer(stages[:1], in_force, prepared([inputs]), n),
            "cascade": engine_timer(stages, in_force, prepared([inputs, inputs]), n),
            "float32": engine_timer(stages[1:], in_force, prepared([inputs]), n),
        },
        given.runs,
    )
    return {
        "refused": refused,
        "agreement": agreement(of, "int8"),
        "int8_drop": accuracy(of, "float32") - accuracy(of, "int8"),
        "tuning": tuning.to_json(),
        "ms": {name: limits(Spread.of(values)) for name, values in ms.items()},
        "faster": limits(ratio(ms["float32"], ms["cascade"])),
        "batches": [choice.batch_size for choice in cascade.choices],
    }


def self_row(found: dict[str, Any]) -> list[str]:
    """The cells of its row, or why there are none."""
    if "tuning" not in found:
        return [found["network"], "", f"none: {found['refused'][-1]}", *[""] * 6, "does not pay"]
    tuning, faster = found["tuning"], Spread(*found["faster"])
    judged, promise = tuning["evaluation"], tuning["guarantee"]
    low, high = (percent(end) for end in judged["drop_interval"])
    share = judged["exit_ratio"][0]
    so = "int8 alone keeps the promise" if share == 1 else "pays" if faster.low > 1 else "does not pay"
    return [
        found["network"],
        f"{percent(found['agreement'])}, {percent(found['int8_drop'])}",
        f"at most {percent(promise['target'])}, {percent(promise['confidence'])} (n = {promise['n']})",
        percent(share),
        f"{percent(judged['drop'])} [{low}, {high}], n = {judged['n']}",
        *(shown(Spread(*found["ms"][name]), 3) for name in ("int8", "cascade", "float32")),
        f"**{shown(faster)}**",
        so,
    ]


# --- networks to try it on -------------------------------------------------------------------------------------------


def train(folder: Path, work: Path) -> None:
    """A ResNet-34 and a vision transformer on Fashion-MNIST, without exits, into work/NAME/network.safetensors."""
    parts = {part: load_data(f"idx:{folder / f'{part}-images-idx3-ubyte.gz'}") for part in ("train", "t10k")}
    for name, (architecture, arguments, recipe) in NETWORKS.items():
        done = train_exits(
            architecture,
            parts["train"],
            work / name,
            exits=0,
            arguments=arguments,
            recipe=recipe,
            held_out=parts["t10k"],
        )
        print(f"exits:{done.file}: right in {percent(done.accuracy[-1])}")


if __name__ == "__main__":
    main()
