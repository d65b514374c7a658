"""Peak memory of `predict --low-memory` beside that of the base alone (Little-Big, Table 9).

    python benchmarks/low_memory.py
    python benchmarks/low_memory.py --saver resnet50 --base convnext_base

timm's architectures with random weights kept in a file; random pictures, half of which exit. Every figure is the peak
resident memory of a process of its own. About two minutes on two cores.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import resource
import tempfile
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

import pilotfish
from pilotfish.cascade import ALONE, load_artefact, save_artefact
from pilotfish.machine import cpu_count, describe_machine

BATCH = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--saver", default="resnet50")
    parser.add_argument("--base", default="convnext_small")
    parser.add_argument("--samples", type=int, default=64)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        in_process(prepare, folder, options.saver, options.base, options.samples)
        peaks = {name: in_process(run, folder, name) for name in ("nothing", "saver", "base", "both", "low memory")}
        for name, (peak, said) in peaks.items():
            print(f"{name:10} {peak:7.0f} MB  {said}")
        peak, base = peaks["low memory"][0], peaks["base"][0]
        assert peaks["both"][1] == peaks["low memory"][1], "the answers differ"
        print(
            f"one model at a time: {peak / base:.3f} of the base alone, {peak / peaks['both'][0]:.3f} of both at once"
        )
    print(json.dumps(describe_machine()))


def prepare(folder: Path, saver: str, base: str, samples: int) -> tuple[float, str]:
    """Weights, pictures, records and a cascade that lets half of them exit."""
    import timm
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    names = []
    for name in (saver, base):
        path = folder / f"{name}.safetensors"
        save_file({k: v.clone() for k, v in timm.create_model(name, pretrained=False).state_dict().items()}, path)
        names.append(f"timm:{name}?weights={path}")
    images = np.random.default_rng(0).integers(0, 256, (samples, 256, 256, 3), dtype=np.uint8)
    np.savez(folder / "data.npz", x=images)
    data = f"arrays:{folder}/data.npz"
    pilotfish.record(data, names, folder / "run", timing=False, batch_size=BATCH)
    where = pilotfish.tune(folder / "run", names, max_drop=0, holdout=0).save(folder / "cascade")
    scores = pilotfish.open_run(folder / "run").read(names[0]).outputs.log_odds
    artefact = load_artefact(where)
    half = dataclasses.replace(artefact.operating_point, thresholds=(float(np.median(scores)),))
    save_artefact(dataclasses.replace(artefact, operating_point=half), where)
    return 0.0, ""


def run(folder: Path, what: str) -> tuple[float, str]:
    """Answer the pictures in this process: its peak in MB, and what was answered."""
    from pilotfish.runtime import Answer, Cascade, Engine, predict_sequentially
    from pilotfish.runtime.choice import default_runtime
    from pilotfish.runtime.load_stage import engine_stage, load_stage, with_threads
    from pilotfish.runtime.supply import DecodingSupply

    data, where = pilotfish.load_data(f"arrays:{folder}/data.npz"), folder / "cascade"
    answers: list[Answer] = []
    if what == "both":
        answers = Cascade.load(where).predict(data)
    elif what == "low memory":
        answers = predict_sequentially(where, data)
    elif what != "nothing":
        stage = load_artefact(where).stages[what == "base"]
        model = load_stage(stage, where, "cpu")
        choice = default_runtime(stage, model.backend.name)
        model = with_threads(model, choice.threads)
        supply = DecodingSupply(data.read, len(data), [model.preprocessing], cpu_count())
        Engine([engine_stage(what, model, choice)], ALONE).run(supply)
    taken = [answer.stage for answer in answers]
    said = f"{taken.count(0)} exit, {taken.count(1)} go on, predictions {hash(tuple(a.prediction for a in answers))}"
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, said if answers else ""


def in_process(function: Any, *arguments: Any) -> Any:
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


if __name__ == "__main__":
    main()
