"""A cascade of precisions beside its base alone, the best float32 pair under the same promise, and Little-Big's loop.

Little-Big's pseudo-code is run on that float32 pair: its saver, then where the pair's threshold says so its base, in
eager torch and float32, one image at a time with every core, decoded by Pillow as the models' names say.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from precision_parts import (
    Samples,
    Timer,
    clock,
    engine_timer,
    from_files,
    in_turn,
    limits,
    prepared,
    ratio,
    run_here,
    shown,
)

import pilotfish
from pilotfish.cascade import Artefact
from pilotfish.data import Dataset, load_data
from pilotfish.flow.best_cascade import Asked, best_chain
from pilotfish.flow.precision_gain import computes_in
from pilotfish.machine import cpu_count
from pilotfish.runtime import Engine
from pilotfish.runtime.peers import ONE_BY_ONE, Inputs, decoding, find_peers
from pilotfish.runtime.peers import prepared as made_before
from pilotfish.runtime.spread import Spread
from pilotfish.runtime.supply import TensorSupply

BASE, PAIR, LADDER, PEER = "base alone", "best float32 pair", "cascade of precisions", "Little-Big's pseudo-code"
CASCADE_COLUMNS = ("", "stages", "exit ratios", "models only, ms", "base ÷ this", "from file, ms", "base ÷ this")


def time_cascade(
    folder: Path, data: str, run: Path | None, samples: int, runs: int, seconds: float, work: Path
) -> dict[str, Any]:
    """Everything in turn, models only and from file to answer.

    folder   that ``build --precisions`` wrote; run: its records, by default FOLDER-run
    samples  of *data* that are timed; seconds: about how long tune-runtime takes per stage
    work     where the float32 pair is kept
    """
    dataset = load_data(data)
    pilotfish.tune_runtime(folder, dataset, seconds=seconds)
    ladder = pilotfish.Cascade.load(folder)
    tuning = float32_pair(pilotfish.open_run(run or folder.with_name(f"{folder.name}-run")), ladder.artefact)
    pair = run_here(tuning, work / "float32-pair", seconds, dataset)
    ways = {PAIR: pair, LADDER: ladder}
    times, exits = {}, {}
    for what in ("models only", "from file"):
        timers: dict[str, Timer] = {}
        for name, cascade in ways.items():
            held = _samples(cascade, dataset, samples)
            found = Engine(cascade.engine_stages(), cascade.artefact.in_force).run(TensorSupply(held.tensors))
            stops, k = found.stage, len(cascade.models)
            exits[name] = [float((stops == stage).mean()) for stage in range(k)]
            if name == PAIR:
                timers[BASE] = _timer(cascade, held, slice(k - 1, k), what)
                timers[PEER] = _peer(cascade, held, np.asarray(stops), what)
            timers[name] = _timer(cascade, held, slice(0, k), what)
        times[what] = in_turn(timers, runs)
    return {
        "budget": str(ladder.artefact.operating_point.budget),
        "timed": samples,
        "stages": {name: [stage.name for stage in one.artefact.stages] for name, one in ways.items()},
        "judged": {name: one.artefact.evaluation and one.artefact.evaluation.to_json() for name, one in ways.items()},
        "exit_ratio": exits,
        "ms": {what: {name: limits(Spread.of(v)) for name, v in ms.items()} for what, ms in times.items()},
        "base_over": {what: {n: limits(ratio(ms[BASE], v)) for n, v in ms.items()} for what, ms in times.items()},
        "over_cascade": {what: {n: limits(ratio(v, ms[LADDER])) for n, v in ms.items()} for what, ms in times.items()},
    }


def float32_pair(run: pilotfish.Run, ladder: Artefact) -> pilotfish.Tuning:
    """The best saver in float32 for the ladder's base, as ``build`` chooses it under the same budget, cost, split and
    promise. Savers with a decoder of their own and without one compete."""
    base, origin, budget = ladder.stages[-1].name, ladder.origin, ladder.operating_point.budget
    assert budget is not None
    split = str(origin["split"])
    plain = [meta.model for meta in run.metas(split) if computes_in(meta) == "float32" and meta.model != base]
    asked = Asked(
        {budget.kind: budget.value},
        ladder.cost_key or "ms",
        split,
        origin["holdout"],
        origin["seed"],
        origin.get("judge_on", "random"),
        guarantee=ladder.guarantee and ladder.guarantee["confidence"],
    )
    return best_chain(run, plain, base, asked, 2)


def cascade_rows(found: dict[str, Any]) -> list[list[str]]:
    """The cells of a row per way."""
    rows = []
    for name in (BASE, PEER, PAIR, LADDER):
        own = LADDER if name == LADDER else PAIR
        stages = found["stages"][own][-1 if name == BASE else 0 :]
        shares = "" if name == BASE else " / ".join(f"{share:.3f}" for share in found["exit_ratio"][own])
        times = [shown(Spread(*found[key][what][name])) for what in found["ms"] for key in ("ms", "base_over")]
        rows.append([name, " → ".join(stages), shares, *times])
    return rows


def cascade_ratios(found: dict[str, Any]) -> list[str]:
    """What everything else takes beside the cascade of precisions."""
    return [
        f"{name} ÷ {LADDER}: "
        + ", ".join(f"{what} **{shown(Spread(*ratios[name]))}**" for what, ratios in found["over_cascade"].items())
        for name in (BASE, PAIR, PEER)
    ]


def _samples(cascade: pilotfish.Cascade, data: Dataset, most: int) -> Samples:
    return Samples.of(data, [model.preprocessing for model in cascade.models], most, cascade.reader(data))


def _timer(cascade: pilotfish.Cascade, held: Samples, which: slice, what: str) -> Timer:
    """Some stages of *cascade* in the engine."""
    supply = prepared(held.tensors[which]) if what == "models only" else from_files(cascade, held, which, cpu_count())
    return engine_timer(cascade.engine_stages()[which], cascade.artefact.in_force, supply, len(held.rows))


def _peer(pair: pilotfish.Cascade, held: Samples, stops: NDArray[np.int64], what: str) -> Timer:
    """Little-Big's pseudo-code with the pair's models in torch."""
    import torch

    if torch.get_num_threads() < cpu_count():  # as OMP_NUM_THREADS says
        print(f"note: {PEER} runs on {torch.get_num_threads()} of {cpu_count()} cores; unset OMP_NUM_THREADS")
    peer = next(p for p in find_peers(pair.models, "cpu", 1) if p.name == f"{ONE_BY_ONE}, torch")
    read = pair.reader(held.data)
    tensor = (
        made_before(held.tensors, np.arange(len(held.rows)))
        if what == "models only"
        else decoding(lambda i: read(held.rows[i]), [model.preprocessing for model in pair.models])
    )
    inputs = Inputs(tensor, stops, cpu_count())
    return lambda: clock(lambda: peer.run(inputs), len(held.rows))
