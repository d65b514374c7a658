"""Efficiency on a GPU of the pairs of TinySaver's Table 6, with timm's architectures and random weights.

    python benchmarks/gpu_pairs.py --out gpu_pairs.json
    python benchmarks/gpu_pairs.py --device cpu --pair test_resnet,resnet18 --batch 1 8 --samples 64   # anywhere

Exits are forced by a mask, so weights do not matter; inputs are random and lie on the device. Per stage the fastest of
torch eager, channels-last and CUDA graphs at this batch size is taken; stages alone and the cascade run in turn. Needs
torch and timm, no network and no data.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pilotfish.cascade import ALONE, InForce, OperatingPoint, Rule
from pilotfish.errors import ModelError
from pilotfish.files import write_json
from pilotfish.machine import describe_machine, device_name
from pilotfish.models import load_model
from pilotfish.models.backends.backends import with_backend
from pilotfish.models.model import Model
from pilotfish.runtime import Engine, EngineStage
from pilotfish.runtime.single import answer_one
from pilotfish.runtime.spread import Spread
from pilotfish.runtime.supply import TensorSupply
from pilotfish.scores import SCORES, ExitScore

PAIRS = (  # saver, base, batch sizes of the table's columns
    ("convnextv2_large", "convnextv2_huge", (1,)),
    ("swin_base_patch4_window7_224", "convnextv2_huge", (128,)),
    ("convnextv2_base", "swin_base_patch4_window7_224", (1,)),
    ("davit_tiny", "swin_base_patch4_window7_224", (128, 512)),
    ("convnextv2_atto", "efficientnet_b2", (1,)),
    ("efficientvit_m5", "efficientnet_b2", (128, 512)),
    ("convnextv2_nano", "efficientformerv2_s2", (1,)),
    ("efficientvit_b2", "efficientformerv2_s2", (128, 512)),
)
BACKENDS = ("torch", "torch-channels-last", "torch-cuda-graphs")
NOBODY = InForce(Rule(), (ExitScore(SCORES["max_prob"], "log_odds"),), OperatingPoint((float("inf"),)))


@dataclass(frozen=True)
class Runner:
    """A stage on the backend that is fastest at the batch size. inputs: a tensor (N, …) on the device."""

    stage: EngineStage
    inputs: Any


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype", default="float32", choices=["float32", "float16", "bfloat16"])
    parser.add_argument("--pair", action="append", help="SAVER,BASE by timm's names, instead of the table's")
    parser.add_argument("--batch", type=int, nargs="+", help="batch sizes, instead of the table's")
    parser.add_argument("--exit-ratio", type=float, nargs="+", default=[0.5, 0.7, 0.9])
    parser.add_argument("--samples", type=int, default=4096, help="at batch 1, a sixteenth of them")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    chosen = [(*pair.split(","), (1, 128, 512)) for pair in options.pair] if options.pair else list(PAIRS)
    documents = []
    print(f"{device_name(options.device)}, {options.dtype}")
    for saver, base, sizes in chosen:
        for size in options.batch or sizes:
            n = max(2 * size, options.samples // (16 if size == 1 else 1))
            runners = [fastest(name, size, n, options) for name in (saver, base)]
            for ratio in options.exit_ratio:
                found = measure(runners, ratio, size, n, options.runs)
                documents.append({"saver": saver, "base": base, "batch": size, "exit_ratio": ratio, "n": n, **found})
                show(documents[-1])
                if options.out is not None:
                    machine = {**describe_machine(), "device": device_name(options.device), "dtype": options.dtype}
                    write_json(options.out, {"machine": machine, "results": documents})
    print(json.dumps(describe_machine()))


def fastest(name: str, size: int, n: int, options: argparse.Namespace) -> Runner:
    """The model on its fastest backend at batches of *size*, and its inputs."""
    import torch

    suffix = "" if options.dtype == "float32" else f"&dtype={options.dtype}"
    plain = load_model(f"timm:{name}?weights=random{suffix}", options.device, backend="torch")
    rng = np.random.default_rng(0)
    assert plain.input_shape is not None
    few = rng.standard_normal((min(n, 64), *plain.input_shape), dtype=np.float32)
    dtype = getattr(torch, options.dtype)
    inputs = torch.from_numpy(few).to(options.device, dtype)[torch.arange(n) % len(few)]
    if options.device == "cpu":
        inputs = few[np.arange(n) % len(few)]
    times = {}
    for backend in BACKENDS:
        if found := candidate(plain, options.device, backend):
            stage = EngineStage(name, found.backend, size, lanes=1 if size == 1 else 2)
            run = alone(Runner(stage, inputs[: min(n, 4 * size)]), size)
            run()
            times[stage] = min(run() for _ in range(3))
    best = min(times, key=times.__getitem__)
    return Runner(best, inputs)


def candidate(plain: Model, device: str, backend: str) -> Model | None:
    """The model on *backend*; None where that cannot be."""
    try:
        return with_backend(plain, device, backend)
    except ModelError:
        return None


def alone(runner: Runner, size: int) -> Callable[[], float]:
    """Milliseconds per sample of a stage alone: one call after the other at batch 1, else the engine."""
    n = len(runner.inputs)
    if size == 1:
        stage = [runner.stage]
        return lambda: clock(lambda: [answer_one(stage, ALONE, lambda _, i=i: runner.inputs[i]) for i in range(n)], n)
    return lambda: clock(lambda: Engine([runner.stage], ALONE).run(TensorSupply([runner.inputs])), n)


def together(runners: Sequence[Runner], forced: np.ndarray, size: int) -> Callable[[], float]:
    """Milliseconds per sample of the cascade."""
    n, stages = len(forced), [runner.stage for runner in runners]
    if size == 1:

        def one_by_one() -> None:
            for i, stop in enumerate(forced.tolist()):
                answer_one(stages, NOBODY, lambda k, i=i: runners[k].inputs[i], forced=stop)  # type: ignore[misc]

        return lambda: clock(one_by_one, n)
    engine = Engine(stages, NOBODY, forced)
    return lambda: clock(lambda: engine.run(TensorSupply([runner.inputs for runner in runners])), n)


def measure(runners: Sequence[Runner], ratio: float, size: int, n: int, runs: int) -> dict[str, Any]:
    """Times of both stages alone and of the cascade, in turn; the first turn is not counted."""
    forced = np.ones(n, np.int64)
    forced[np.random.default_rng(0).permutation(n)[: round(ratio * n)]] = 0
    share = float((forced == 0).mean())
    timers = [*(alone(runner, size) for runner in runners), together(runners, forced, size)]
    turns = [[timer() for timer in timers] for _ in range(runs + 1)][1:]
    efficiency = Spread.of([(s + (1 - share) * b) / ours for s, b, ours in turns])
    speedup = Spread.of([b / ours for _, b, ours in turns])
    saver, base, ours = (Spread.of(list(column)) for column in zip(*turns, strict=True))
    return {
        "backends": [runner.stage.backend.name for runner in runners],
        "saver_ms": saver.median,
        "base_ms": base.median,
        "realised_ms": ours.median,
        "efficiency": efficiency.median,
        "efficiency_spread": efficiency.limits,
        "speedup": speedup.median,
        "speedup_spread": speedup.limits,
    }


def clock(run: Callable[[], Any], n: int) -> float:
    start = time.perf_counter()
    run()
    return 1000 * (time.perf_counter() - start) / n


def show(found: dict[str, Any]) -> None:
    low, high = found["efficiency_spread"]
    print(
        f"{found['saver']} -> {found['base']}, batch {found['batch']}, exit ratio {found['exit_ratio']:g}: "
        f"alone {found['saver_ms']:.3f}, {found['base_ms']:.3f} ms ({', '.join(found['backends'])}), realised "
        f"{found['realised_ms']:.3f} ms, efficiency {found['efficiency']:.3f} [{low:.3f}, {high:.3f}], "
        f"{found['speedup']:.2f}x the base ({1000 / found['base_ms']:.0f} -> {1000 / found['realised_ms']:.0f} img/s)",
        flush=True,
    )


if __name__ == "__main__":
    main()
