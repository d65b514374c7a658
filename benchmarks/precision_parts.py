"""What the tables of precisions are made of: a network in each precision with its records, and stages timed in turn."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import pilotfish
from pilotfish.cascade import ALONE, InForce
from pilotfish.data import Dataset, load_data
from pilotfish.data.subset import Subset
from pilotfish.errors import PilotfishError, UnreadableSample
from pilotfish.files import encode_name, sha256_json
from pilotfish.models import load_model
from pilotfish.runtime import Engine, EngineStage
from pilotfish.runtime.spread import Spread
from pilotfish.runtime.supply import DecodingSupply, Supply, TensorSupply

DTYPES = {"float32": "float32", "bf16": "bfloat16", "int8": "int8"}
CALIBRATE = 128  # samples that int8 is calibrated on, where no other data are named
FEW = 64  # samples that a network with fresh weights is recorded on
FRESH = "weights=random"
Timer = Callable[[], float]


@dataclass(frozen=True)
class Subject:
    """A network and its data. judged: samples that nothing was calibrated on; calibrate: those for int8; fresh: whether
    its weights are random, so that only times mean something; run: the folder of its records, named by precision."""

    network: str
    judged: Dataset
    calibrate: Dataset
    fresh: bool
    run: Path

    @property
    def title(self) -> str:
        """The network as a row of a table names it: one of one's own by its folder."""
        kind, _, name = self.network.removesuffix(f"?{FRESH}").partition(":")
        return (Path(name).parent.name if kind == "exits" else name) + (", fresh weights" if self.fresh else "")


def subject(network: str, data: str, calibrate: str | None, work: Path) -> Subject:
    """*network* with *data* to judge on, a few of them where it is fresh; without *calibrate*, some of them are set
    aside for int8."""
    whole = load_data(data)
    order = np.random.default_rng(0).permutation(len(whole))
    aside = 0 if calibrate else min(CALIBRATE, len(whole) // 4)
    own = load_data(calibrate) if calibrate else Subset(whole, np.sort(order[:aside]))
    fresh = network.endswith(FRESH)
    judged = Subset(whole, np.sort(order[aside : aside + FEW] if fresh else order[aside:]))
    found = Subject(network, judged, own, fresh, work)
    return replace(found, run=work / f"{encode_name(found.title)}-{sha256_json([network, data, calibrate])[:8]}")


def variants(of: Subject, timing: bool) -> tuple[str, ...]:
    """The precisions in which the network could be recorded, float32 first; says why one could not. What is there from
    an earlier call is kept.

    timing  whether milliseconds per sample are recorded as a cost
    """
    of.run.mkdir(parents=True, exist_ok=True)
    found, name = [], _kept_weights(of) if of.fresh else of.network
    for precision in DTYPES:
        try:
            spec = _int8(of, name) if precision == "int8" else _stated(name, precision)
            pilotfish.record(of.judged, spec, of.run, alias=precision, timing=timing)
            found.append(precision)
        except PilotfishError as error:
            print(f"note: {of.title}, {precision}: {error}")
    return tuple(found)


def _stated(name: str, precision: str) -> str:
    return name if precision == "float32" else f"{name}{'&' if '?' in name else '?'}dtype={DTYPES[precision]}"


def _int8(of: Subject, name: str) -> str:
    file = of.run / "int8.onnx"
    if not file.is_file():
        pilotfish.quantise(name, of.calibrate, file)
    return f"onnx:{file}"


def _kept_weights(of: Subject) -> str:
    """Fresh weights drawn once and kept, so that every precision has the same."""
    from safetensors.torch import save_file

    architecture = of.network.removesuffix(f"?{FRESH}")
    file = of.run / "fresh.safetensors"
    if not file.is_file():
        module: Any = load_model(of.network, backend="torch").backend
        save_file({key: value.contiguous() for key, value in module.module.state_dict().items()}, file)
    return f"{architecture}?weights={file}"


def accuracy(of: Subject, precision: str) -> float:
    """Share of the samples that a precision is right about."""
    records = pilotfish.open_run(of.run).read(precision)
    return float((records.outputs.prediction == records.label).mean())


def agreement(of: Subject, precision: str) -> float:
    """Share of the samples for which a precision predicts what float32 does."""
    run = pilotfish.open_run(of.run)
    said = [run.read(name).outputs.prediction for name in ("float32", precision)]
    return float((said[0] == said[1]).mean())


def run_here(tuning: pilotfish.Tuning, folder: Path, seconds: float, data: Dataset) -> pilotfish.Cascade:
    """The cascade that was tuned, kept in *folder*, every stage run as it is fastest here."""
    pilotfish.tune_runtime(tuning.save(folder), data, seconds=seconds)
    return pilotfish.Cascade.load(folder)


@dataclass(frozen=True)
class Samples:
    """Readable samples of a data set for some models. rows: their places; tensors: an array (N, …) per model."""

    data: Dataset
    rows: list[int]
    tensors: list[NDArray[np.float32]]

    @classmethod
    def of(cls, data: Dataset, chains: Sequence[Any], most: int, read: Callable[[int], Any]) -> Samples:
        """The first *most* samples that *read* can read, prepared by each of *chains*."""
        rows: list[int] = []
        made: list[list[NDArray[np.float32]]] = []
        for row in range(len(data)):
            if len(rows) == most:
                break
            try:
                sample = read(row)
                made.append([chain(sample) for chain in chains])
                rows.append(row)
            except UnreadableSample:
                continue
        return cls(data, rows, [np.stack(column) for column in zip(*made, strict=True)])


def engine_timer(
    stages: Sequence[EngineStage],
    in_force: InForce,
    supply: Callable[[], Supply],
    n: int,
    forced: NDArray[np.int64] | None = None,
) -> Timer:
    """Milliseconds per sample of stages in the engine; one stage answers everything."""
    engine = Engine(stages, ALONE if len(stages) == 1 else in_force, forced)
    return lambda: clock(lambda: engine.run(supply()), n)


def prepared(tensors: Sequence[NDArray[np.float32]]) -> Callable[[], Supply]:
    """Inputs that were made beforehand: the models alone are timed."""
    return lambda: TensorSupply(tensors)


def from_files(cascade: pilotfish.Cascade, held: Samples, which: slice, workers: int) -> Callable[[], Supply]:
    """Inputs read and prepared while the models run, each stage's in its own way."""
    read, rows = cascade.reader(held.data), held.rows
    chains = [model.preprocessing for model in cascade.models[which]]
    return lambda: DecodingSupply(lambda i: read(rows[i]), len(rows), chains, workers)


def clock(run: Callable[[], Any], n: int) -> float:
    """Milliseconds that *run* takes, per sample of *n*."""
    start = time.perf_counter()
    run()
    return 1000 * (time.perf_counter() - start) / n


def in_turn(timers: Mapping[str, Timer], runs: int) -> dict[str, list[float]]:
    """What each timer says, *runs* times in turn, so that a busy moment harms all alike; one turn before is not
    counted."""
    turns = [{name: timer() for name, timer in timers.items()} for _ in range(runs + 1)][1:]
    return {name: [turn[name] for turn in turns] for name in timers}


def ratio(above: Sequence[float], below: Sequence[float]) -> Spread:
    """Median, least and largest of the turns' ratios."""
    return Spread.of([a / b for a, b in zip(above, below, strict=True)])


def shown(spread: Spread, digits: int = 2) -> str:
    """A figure as the tables of docs/benchmarks.md have it."""
    return f"{spread.median:.{digits}f} [{spread.low:.{digits}f}, {spread.high:.{digits}f}]"


def limits(spread: Spread) -> list[float]:
    """For a JSON file: median, least and largest."""
    return [spread.median, *spread.limits]


def as_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    return as_rows([columns, ["---"] * len(columns), *rows])


def as_rows(rows: Sequence[Sequence[str]]) -> str:
    """Its rows alone."""
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
