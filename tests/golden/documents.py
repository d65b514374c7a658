"""What planning printed before its core was rebuilt: the documents that are kept, and how they are made again.

PYTHONPATH=tests python -m golden.documents            compare all of them, scores that are fitted included
PYTHONPATH=tests python -m golden.documents --write    write them anew: only where figures are meant to change

Those of ``--test wsr`` are later ones: its bets were made in the order of the records, which is no order of chance.
"""

from __future__ import annotations

import gzip
import itertools
import json
import math
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pilotfish.records import Outputs, Records, RecordsMeta, Run, from_probabilities
from pilotfish.records.records import string_ids
from support.process import command
from support.runs import REAL_DATA

HERE = Path(__file__).parent
LITE = Path(__file__).parents[2] / "examples" / "imagenet_lite"
CIFAR = REAL_DATA / "cifar10_test.npz"
METHODS = ("sweep", "pcee", "dyce", "ensemble")
COSTS = {"lenet5": 0.42e6, "wrn16_4": 0.24e9, "wrn_28_10": 5.2e9}
PAIRS = (("lenet5", "wrn16_4"), ("wrn16_4", "wrn_28_10"))


def cifar_run(folder: Path) -> Run:
    """CIFAR-10's records of three models, 3 of 10 class probabilities each, as import would write them."""
    run = Run(folder)
    with np.load(CIFAR, allow_pickle=False) as file:
        label = file["label"].astype(np.int64)
        outputs = {
            str(n): from_probabilities(p, top_k=10) for n, p in zip(file["prob_models"], file["probs"], strict=True)
        }
        classes = dict(zip(file["class_models"].tolist(), file["classes"], strict=True))
        outputs["wrn_28_10"] = Outputs(classes["wrn_28_10"].astype(np.int64))
    for model, macs in COSTS.items():
        meta = RecordsMeta(model, "val", source="imported", n_classes=10, costs={"macs": macs})
        run.write(Records(string_ids(np.arange(len(label))), label, outputs[model], meta))
    return run


def asked(run: str) -> Iterator[tuple[str, list[str]]]:
    """(name, arguments) of every document of one of the two runs."""
    if run == "lite":
        place = str(LITE)
        pairs = [
            (f"lite:efficientnet_lite{a}", f"lite:efficientnet_lite{b}")
            for a, b in (("0@224", "2@300"), ("1@208", "2@260"))
        ]
        three = ["lite:efficientnet_lite0@160", "lite:efficientnet_lite1@240", "lite:efficientnet_lite2@300"]
    else:
        place, pairs, three = run, list(PAIRS), []
    for k, (saver, base) in enumerate(pairs):
        drop = "4%" if saver == "lenet5" else "2%"
        for extra in ([], ["--holdout", "0.5"], ["--score", "auto"], ["--guarantee", "90%", "--method", "sweep"]):
            budget = ["--max-drop", "5%"] if "--guarantee" in extra else []
            yield f"savers-{k}{_name(extra)}", ["savers", place, "--base", base, *extra, *budget]
        for method, guarantee, score in itertools.product(METHODS, (False, True), ("max_prob", "auto")):
            if method == "ensemble" and base == "wrn_28_10":
                continue  # the base has classes alone
            extra = [
                *(["--guarantee", "90%"] if guarantee else []),
                *([] if score == "max_prob" else ["--score", score]),
            ]
            yield (
                f"tune-{k}-{method}{_name(extra)}",
                [
                    "tune",
                    place,
                    "--stages",
                    f"{saver},{base}",
                    "--method",
                    method,
                    "--max-drop",
                    "5%" if guarantee else drop,
                    *extra,
                ],
            )
        yield f"tune-{k}-cost", ["tune", place, "--stages", f"{saver},{base}", "--max-cost", "60%", "--holdout", "0"]
        yield (
            f"tune-{k}-wsr",
            ["tune", place, "--stages", f"{saver},{base}", "--max-drop", "8%", "--guarantee", "90%", "--test", "wsr"],
        )
        yield f"chains-{k}", ["chains", place, "--base", base, "--max-drop", drop]
        yield f"analyse-{k}", ["analyse", place, "--base", base, "--max-drop", drop]
    if three:
        for method in ("sweep", "pcee", "dyce", "average", "agreement", "patience"):
            yield (
                f"tune-three-{method}",
                ["tune", place, "--stages", ",".join(three), "--method", method, "--max-drop", "5%"],
            )


def _name(extra: list[str]) -> str:
    return "".join(f"-{e.removeprefix('--').removesuffix('%')}" for e in extra)


def made(run: str, place: Path | str | None = None, fitted: bool = True) -> dict[str, Any]:
    """Every document of one run, or how it was refused; those with fitted scores only where *fitted*."""
    found: dict[str, Any] = {}
    for name, arguments in asked(run):
        if "auto" in arguments and not fitted:
            continue
        ended = command(Path.cwd(), *(place if a == run and place else a for a in arguments), "--json")
        found[name] = json.loads(ended.stdout) if ended.returncode == 0 else {"refused": ended.stderr.splitlines()[-1]}
    return found


def differences(now: Any, then: Any, at: str = "") -> Iterator[str]:
    """Where *now* says something else than *then*: keys may be added, notes and reasons may be reworded."""
    if isinstance(then, dict) and isinstance(now, dict):
        for key, value in then.items():
            if key not in now:
                yield f"{at}.{key} is gone"
            elif key not in ("notes", "refused"):
                yield from differences(now[key], value, f"{at}.{key}")
    elif isinstance(then, list) and isinstance(now, list) and len(then) == len(now):
        for i, (one, other) in enumerate(zip(now, then, strict=True)):
            yield from differences(one, other, f"{at}[{i}]")
    elif isinstance(then, float) and isinstance(now, int | float):
        if not math.isclose(now, then, rel_tol=1e-12, abs_tol=1e-12):
            yield f"{at}: {now!r}, was {then!r}"
    elif now != then:
        yield f"{at}: {now!r:.200}, was {then!r:.200}"


def kept(run: str) -> dict[str, Any]:
    """The documents that are kept."""
    found: dict[str, Any] = json.loads(gzip.decompress((HERE / f"{run}.json.gz").read_bytes()))
    return found


def write(run: str, documents: dict[str, Any]) -> None:
    """Keep *documents*."""
    (HERE / f"{run}.json.gz").write_bytes(gzip.compress(json.dumps(documents).encode(), mtime=0))


def main() -> None:
    """Compare or write."""
    with tempfile.TemporaryDirectory() as folder:
        cifar_run(Path(folder))
        found = {"lite": made("lite"), "cifar": made("cifar", folder)}
    if "--write" in sys.argv:
        for run, documents in found.items():
            write(run, documents)
        return
    wrong = [line for run, documents in found.items() for line in differences(documents, kept(run), run)]
    print("\n".join([*wrong[:50], f"{sum(map(len, found.values()))} documents, {len(wrong)} differences"]))
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
