"""What the cascade costs in time, beside what arithmetic allows and beside other ways to run it.

Ideal time per sample = sum over stages of (share of samples that reach the stage) x (time of the stage alone), for a
pair t_S + (1 - r) t_B. A stage alone is the same engine with that one stage, at its own best backend and batch size.
Every measurement is repeated in turn (stage, stage, cascade, peers, stage, …), so that a noisy machine harms them
alike; the efficiency of a run is its own ideal divided by its own realised time. The first turn is not counted.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.cascade import ALONE
from pilotfish.data import Dataset, open_data, sample_reader
from pilotfish.errors import DataError, UnreadableSample, UsageError
from pilotfish.machine import cpu_count, describe_machine
from pilotfish.models.model import F32
from pilotfish.models.preprocessing import size_of
from pilotfish.runtime.cascade import Cascade
from pilotfish.runtime.decoding_share import ClockedSupply, DecodeShare, Run, advice
from pilotfish.runtime.energy import Meter, find_meters, total_joules
from pilotfish.runtime.engine import Engine
from pilotfish.runtime.measure import agreed, fastest
from pilotfish.runtime.peers import Inputs, Peer, PeerTimes, decoding, find_peers, prepared
from pilotfish.runtime.shared import alone, whole
from pilotfish.runtime.single_times import REQUESTS, milliseconds, time_one_input, time_requests
from pilotfish.runtime.spread import Spread
from pilotfish.runtime.stage import EngineStage
from pilotfish.runtime.supply import Supply, TensorSupply
from pilotfish.runtime.times import BenchResult, Energy, Times

DEFAULT_SAMPLES = 500
PEER_SAMPLES = 100  # one image at a time in torch takes a while
PART_SAMPLES = 64  # whose features are enough to time a part of a network
HELD_BYTES = 2**28  # of tensors: more than caches hold, and they are gone through again
Tell = Callable[[str, int, int], None]


@dataclass(frozen=True)
class _Subject:
    """What is timed. rows: the N readable samples; tensors: inputs of the first M of them, one array (M, …) per stage;
    forced: the stage that answers each sample, or None where scores decide."""

    cascade: Cascade
    data: Dataset
    rows: list[int]
    tensors: list[F32]
    forced: NDArray[np.int64] | None
    workers: int

    def tensor_supply(self, which: slice) -> Supply:
        return TensorSupply(self.tensors[which], len(self.rows))

    def decoding_supply(self, which: slice) -> Supply:
        preprocessing = [model.preprocessing for model in self.cascade.models[which]]
        return ClockedSupply(self.read, len(self.rows), preprocessing, self.workers)

    def read(self, i: int) -> Any:
        return self.cascade.reader(self.data)(self.rows[i])

    @property
    def numbers(self) -> F32:
        """Instead of inputs, for a stage whose features were computed beforehand."""
        return np.arange(len(self.rows), dtype=np.float32)[:, None]

    def alone(self, k: int) -> EngineStage:
        """Stage *k* by itself, run as in the cascade."""
        stage = self.cascade.engine_stages()[k]
        runner = alone(self.cascade.runners, k, self.tensors[k])
        return dataclasses.replace(stage, backend=runner, shares=False, alone=None)

    def base(self) -> EngineStage:
        """The base from its inputs, also where the last stage continues from features."""
        stage, choice = self.cascade.engine_stages()[-1], self.cascade.choices[-1]
        if not stage.shares:
            return self.alone(len(self.tensors) - 1)
        found = whole(self.cascade.models[-1], choice.backend, choice.threads)
        return dataclasses.replace(stage, backend=found, shares=False, alone=None)


@dataclass
class _Found:
    """Turn by turn: milliseconds per sample of the stages alone and of peers by name, runs of the base and the cascade;
    joules of both."""

    stages: list[list[float]] = field(default_factory=list)
    base: list[Run] = field(default_factory=list)
    cascade: list[Run] = field(default_factory=list)
    peers: dict[str, list[float]] = field(default_factory=dict)
    joules: list[tuple[float, float]] = field(default_factory=list)


def bench(
    cascade: Cascade | str | Path,
    data: str | Dataset,
    *,
    exit_ratio: float | None = None,
    runs: int = 5,
    samples: int = DEFAULT_SAMPLES,
    workers: int | None = None,
    peers: bool = True,
    progress: Tell | None = None,
    allow_python: Collection[str] = (),
) -> BenchResult:
    """Time a cascade beside its stages alone, and beside other ways to run it.

    cascade     loaded, or its folder
    data        a data set, or its name, such as ``folder:photos``
    runs        how often everything is timed
    samples     of *data*, at most
    workers     threads that prepare inputs; one per core by default
    allow_python  of a folder: as for :meth:`pilotfish.Cascade.load`
    exit_ratio  forces this share of the samples (chosen at random, the same in every run) to exit at the first stage
    peers       also time other ways to run the same cascade
    progress    called with (what, runs done, runs in all)

    Stages that ``tune-runtime`` has not seen on this device are measured first, with the backend they have.
    """
    if exit_ratio is not None and not 0 <= exit_ratio <= 1:
        raise UsageError(f"exit_ratio is a share from 0 to 1, found {exit_ratio}")
    if runs < 1 or samples < 1:
        raise UsageError(f"runs and samples must be at least 1, found {runs} and {samples}")
    cascade = cascade if isinstance(cascade, Cascade) else Cascade.load(cascade, allow_python=allow_python)
    data = open_data(data)
    tell = progress or (lambda *_: None)
    rows, tensors = _prepare(cascade, data, samples, tell)
    cascade = _tuned(cascade, tensors, tell)
    k = len(tensors)
    forced = None if exit_ratio is None else _forced(len(rows), exit_ratio, k)
    subject = _Subject(cascade, data, rows, tensors, forced, workers or cpu_count())
    answers = Engine(cascade.engine_stages(), cascade.artefact.in_force, forced).run(
        subject.tensor_supply(slice(None)) if len(tensors[0]) == len(rows) else subject.decoding_supply(slice(None))
    )
    share = tuple(answers.exit_ratio(k))
    meters = find_meters(cascade.device)
    shared = any(shares for _, shares in cascade.runners)  # whole models, one after the other, would be no rival
    others = find_peers(cascade.models, cascade.device, cascade.choices[0].batch_size) if peers and not shared else []
    few = _few(answers.stage, PEER_SAMPLES)
    stops = np.maximum(answers.stage[few], 0)
    chains = [model.preprocessing for model in cascade.models]
    made = Inputs(prepared(tensors, few), stops, subject.workers)
    filed = Inputs(decoding(lambda i: subject.read(int(few[i])), chains), stops, subject.workers)
    exits = dataclasses.replace(subject, forced=answers.stage)  # also where tensors stand for others
    models_only = _timed(exits, subject.tensor_supply, made, others, runs, (), tell, "models alone")
    filing = _timed(subject, subject.decoding_supply, filed, others, runs, meters, tell, "file to answer")
    decode = [_decoding_ms(subject) for _ in range(runs)]
    asked = _few(answers.stage, REQUESTS).tolist()
    requests = time_requests(cascade, subject.read, asked, forced, lambda *done: tell("single requests", *done))
    base_decoding, decoding_share = DecodeShare.of(filing.base), DecodeShare.of(filing.cascade)
    return BenchResult(
        machine=describe_machine(),
        stages=tuple(stage.name for stage in cascade.artefact.stages),
        batch_sizes=tuple(choice.batch_size for choice in cascade.choices),
        n=len(rows),
        runs=runs,
        forced=exit_ratio,
        exit_ratio=share,
        model_only=_times(models_only, share),
        end_to_end=_times(filing, share),
        speedup=Spread.of([b.ms / c.ms for b, c in zip(filing.base, filing.cascade, strict=True)]),
        parts=tuple(shares for _, shares in cascade.runners),
        choices=cascade.choices,
        decode_ms=Spread.of(decode),
        decoded_once=_decoded_once(filing, share, decode, _same_decoding(cascade)),
        single=time_one_input(cascade, tensors[0], runs, requests),
        peers=tuple(_peer(peer.name, models_only, filing) for peer in others),
        peer_n=len(few) if others else 0,
        energy=_energy(filing, meters),
        base_decode_share=base_decoding,
        decode_share=decoding_share,
        notes=advice(decoding_share, chains, sample_reader(data, True)(rows[0])),
    )


def _prepare(cascade: Cascade, data: Dataset, samples: int, tell: Tell) -> tuple[list[int], list[F32]]:
    """Readable samples, and tensors of the first for every stage."""
    rows: list[int] = []
    tensors: list[F32] = []
    limit = min(samples, len(data))
    read = cascade.reader(data)
    for row in range(len(data)):
        if len(rows) == limit:
            break
        try:
            sample = read(row)
            made = [model.preprocessing(sample) for model in cascade.models]
        except UnreadableSample:
            continue
        if not tensors:
            held = min(limit, max(1, HELD_BYTES // sum(size_of(tensor) for tensor in made)))
            tensors = [np.empty((held, *tensor.shape), tensor.dtype) for tensor in made]
        if len(rows) < len(tensors[0]):
            for array, tensor in zip(tensors, made, strict=True):
                array[len(rows), ...] = tensor
        rows.append(row)
        tell("reading samples", len(rows), limit)
    if not rows:
        raise DataError(f"none of the {len(data)} samples of {data.spec} could be read")
    return rows, [array[: len(rows)] for array in tensors]


def _tuned(cascade: Cascade, tensors: Sequence[F32], tell: Tell) -> Cascade:
    """The cascade with every stage run in the way that is fastest here and now, on the backend it has."""
    choices, measured = [], []
    for k, (stage, choice, tensor) in enumerate(zip(cascade.artefact.stages, cascade.choices, tensors, strict=True)):
        if choice.ms is None:
            backend = alone(cascade.runners, k, tensor[:PART_SAMPLES])
            choice, ranked = fastest(
                {backend.name: backend},
                tensor if tensor.dtype == object else (1,) if cascade.runners[k][1] else tensor.shape[1:],
                cascade.device,
                6.0,
                lambda done, of, name=stage.name: tell(f"timing {name}", done, of),  # type: ignore[misc]
            )
            measured.append(ranked)
        choices.append(choice)
    if len(measured) == len(choices):
        choices = agreed(
            measured, [1.0 - sum(cascade.artefact.calibration.exit_ratio[:k]) for k in range(len(choices))]
        )
    return Cascade(cascade.artefact, cascade.models, choices, cascade.device)


def _forced(n: int, exit_ratio: float, stages: int) -> NDArray[np.int64]:
    """The stage that answers each sample: the first for a random share, the last for the others."""
    forced = np.full(n, stages - 1, np.int64)
    forced[np.random.default_rng(0).permutation(n)[: round(exit_ratio * n)]] = 0
    return forced


def _few(stops: NDArray[np.int64], most: int) -> NDArray[np.intp]:
    """Up to *most* samples with the same exit ratios as all, in their order."""
    if len(stops) <= most:
        return np.arange(len(stops))
    by_stage = np.argsort(stops, kind="stable")
    return np.sort(by_stage[np.linspace(0, len(stops) - 1, most).round().astype(int)])


def _timed(
    subject: _Subject,
    supply: Callable[[slice], Supply],
    inputs: Inputs,
    peers: Sequence[Peer],
    runs: int,
    meters: Sequence[Meter],
    tell: Tell,
    what: str,
) -> _Found:
    """Everything in turn, *runs* times; one turn before that is not counted."""
    stages = subject.cascade.engine_stages()
    alone = dataclasses.replace(ALONE, task=subject.cascade.artefact.task)
    single = [Engine([subject.alone(k)], alone) for k in range(len(stages))]
    base = Engine([subject.base()], alone)
    full = Engine(stages, subject.cascade.artefact.in_force, subject.forced)
    n, found = len(subject.rows), _Found(peers={peer.name: [] for peer in peers})
    for turn in range(runs + 1):
        kept = found if turn else _Found(peers={peer.name: [] for peer in peers})
        tell(what, turn, runs + 1)
        times = []
        for k, engine in enumerate(single):
            source = TensorSupply([subject.numbers]) if stages[k].shares else supply(slice(k, k + 1))
            before = total_joules(meters)
            times.append(Run.of(engine, source, n))
        if stages[-1].shares:
            before = total_joules(meters)
            kept.base.append(Run.of(base, supply(slice(len(stages) - 1, None)), n))
        else:
            kept.base.append(times[-1])
        joules = total_joules(meters) - before
        kept.stages.append([run.ms for run in times])
        before = total_joules(meters)
        kept.cascade.append(Run.of(full, supply(slice(None)), n))
        kept.joules.append((joules / n, (total_joules(meters) - before) / n))
        for peer in peers:
            kept.peers[peer.name].append(milliseconds(lambda p=peer: p.run(inputs), len(inputs)))  # type: ignore[misc]
    tell(what, runs + 1, runs + 1)
    return found


def _decoding_ms(subject: _Subject) -> float:
    """Reading and decoding every sample as the first stage does, in as many threads as the engine has."""
    decoding = subject.cascade.models[0].preprocessing.decoding

    def decode(i: int) -> None:
        sample = subject.read(i)
        if hasattr(sample, "decode"):
            sample.decode(*decoding)

    with ThreadPoolExecutor(subject.workers) as pool:
        return milliseconds(lambda: deque(pool.map(decode, range(len(subject.rows))), maxlen=0), len(subject.rows))


def _reached(exit_ratio: Sequence[float]) -> NDArray[np.float64]:
    """Share of the samples that reach each stage."""
    return 1.0 - np.concatenate([[0.0], np.cumsum(exit_ratio)[:-1]])


def _times(found: _Found, exit_ratio: Sequence[float]) -> Times:
    ideal = [float(_reached(exit_ratio) @ np.array(stages)) for stages in found.stages]
    return Times(
        stages_ms=tuple(Spread.of(list(column)) for column in zip(*found.stages, strict=True)),
        base_ms=Spread.of([run.ms for run in found.base]),
        ideal_ms=Spread.of(ideal),
        realised_ms=Spread.of([run.ms for run in found.cascade]),
        efficiency=Spread.of([i / run.ms for i, run in zip(ideal, found.cascade, strict=True)]),
    )


def _same_decoding(cascade: Cascade) -> NDArray[np.bool_]:
    """Whether each stage after the first takes the image that the one before decoded; those that share a backbone take
    no image."""
    how = [model.preprocessing.decoding for model in cascade.models]
    later = zip(how, how[1:], [shares for _, shares in cascade.runners][1:], strict=False)
    return np.array([before == after and not shares for before, after, shares in later], bool)


def _decoded_once(
    found: _Found, exit_ratio: Sequence[float], decode: Sequence[float], same: NDArray[np.bool_]
) -> Spread:
    """Efficiency where what stages decode the *same* way as the stage before, bool (K - 1,), is taken off theirs."""
    reached = _reached(exit_ratio)
    again = float(reached[1:] @ same)
    ideal = [float(reached @ np.array(ms)) - again * d for ms, d in zip(found.stages, decode, strict=True)]
    return Spread.of([i / run.ms for i, run in zip(ideal, found.cascade, strict=True)])


def _peer(name: str, alone: _Found, whole: _Found) -> PeerTimes:
    def ratio(found: _Found) -> Spread:
        return Spread.of([p / run.ms for p, run in zip(found.peers[name], found.cascade, strict=True)])

    return PeerTimes(name, Spread.of(alone.peers[name]), Spread.of(whole.peers[name]), ratio(alone), ratio(whole))


def _energy(found: _Found, meters: Sequence[Meter]) -> Energy | None:
    if not meters:
        return None
    base, ours = zip(*found.joules, strict=True)
    return Energy(tuple(meter.name for meter in meters), Spread.of(base), Spread.of(ours))
