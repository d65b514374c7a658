"""The time a cascade takes, compared with the ideal and with other ways to run it.

Ideal time per sample = sum over stages of (share of samples that reach the stage) x (time of the stage alone), for a
pair t_S + (1 - r) t_B. A stage alone is the same engine with that one stage, at its own best backend and batch size.
Every measurement is repeated in turn (stage, stage, cascade, peers, stage, …), so that a noisy machine affects all of
them equally; the efficiency of a run is its own ideal divided by its own realised time. The first turn is not counted.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.data import Dataset, open_data, sample_reader
from pilotfish.errors import DataError, UnreadableSample, UsageError
from pilotfish.machine import cpu_count, describe_machine
from pilotfish.models.model import F32
from pilotfish.runtime.cascade import Cascade
from pilotfish.runtime.decoding_share import DecodeShare, advice
from pilotfish.runtime.energy import Meter, find_meters
from pilotfish.runtime.measure import agreed, fastest
from pilotfish.runtime.peers import Inputs, PeerTimes, decoding, find_peers, prepared
from pilotfish.runtime.shared import alone
from pilotfish.runtime.single_times import REQUESTS, milliseconds, time_one_input, time_requests
from pilotfish.runtime.spread import Spread
from pilotfish.runtime.times import BenchResult, Energy, Times
from pilotfish.runtime.turns import Found, Subject, Tell, time_in_turn
from pilotfish.text import quantity

DEFAULT_SAMPLES = 500
PEER_SAMPLES = 100  # one image at a time in torch takes a while
PART_SAMPLES = 64  # whose features are enough to time a part of a network
HELD_BYTES = 2**28  # of tensors: more than caches hold; they are then repeated
LEAST_SAMPLES = 100  # in any case: with fewer, the last batches of later stages are half empty


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
    seconds: float | None = None,
    beside: Mapping[str, Cascade] | None = None,
) -> BenchResult:
    """Time a cascade, its stages alone, and other ways to run it.

    cascade     loaded, or its folder
    data        a data set, or its name, such as ``folder:photos``
    runs        how often everything is timed
    samples     of *data*, at most
    workers     threads that prepare inputs; one per core by default
    allow_python  for a folder: as for :meth:`pilotfish.Cascade.load`
    exit_ratio  forces this share of the samples (chosen at random, the same in every run) to exit at the first stage
    peers       also time other ways to run the same cascade
    progress    called with (what, runs done, runs in all)
    seconds     about how long the turns may take: if all samples would take longer, fewer are timed, with the same exit
                ratios, but at least 100
    beside      other cascades by name, added to the peers: timed in the same turns, at their own exit ratios, on all
                samples that are timed

    Stages that ``tune-runtime`` has not seen on this device are measured first, with the backend they have.
    """
    if exit_ratio is not None and not 0 <= exit_ratio <= 1:
        raise UsageError(f"exit_ratio is a share from 0 to 1, found {exit_ratio}")
    if runs < 1 or samples < 1:
        raise UsageError(f"runs and samples must be at least 1, found {runs} and {samples}")
    cascade = cascade if isinstance(cascade, Cascade) else Cascade.load(cascade, allow_python=allow_python)
    data = open_data(data)
    tell = progress or (lambda *_: None)
    workers = workers or cpu_count()
    subject, turn_ms = _subject(cascade, data, samples, exit_ratio, workers, tell)
    rivals = {}
    for name, other in (beside or {}).items():
        rivals[name], ms = _subject(other, data, samples, None, workers, tell, alone=False)
        turn_ms += ms
    if seconds is not None:
        most = max(LEAST_SAMPLES, int(1000 * seconds / ((runs + 1) * turn_ms)))
        subject, *kept = (one.only(_few(one.answered, most)) for one in (subject, *rivals.values()))
        rivals = dict(zip(rivals, kept, strict=True))
    cascade, forced, share = subject.cascade, subject.forced, subject.exit_ratio
    meters = find_meters(cascade.device)
    shared = any(shares for _, shares in cascade.runners)  # whole models are no fair rival
    others = find_peers(cascade.models, cascade.device, cascade.choices[0].batch_size) if peers and not shared else []
    few = _few(subject.answered, PEER_SAMPLES)
    stops = np.maximum(subject.answered[few], 0)
    chains = [model.preprocessing for model in cascade.models]
    made = Inputs(prepared(subject.tensors, few), stops, workers)
    filed = Inputs(decoding(lambda i: subject.read(int(few[i])), chains), stops, workers)
    models_only = time_in_turn(subject, False, made, others, rivals, runs, (), tell)
    filing = time_in_turn(subject, True, filed, others, rivals, runs, meters, tell)
    decode = [_decoding_ms(subject) for _ in range(runs)]
    asked = _few(subject.answered, REQUESTS).tolist()
    requests = time_requests(cascade, subject.read, asked, forced, lambda *done: tell("single requests", *done))
    base_decoding, decoding_share = DecodeShare.of(filing.base), DecodeShare.of(filing.cascade)
    return BenchResult(
        machine=describe_machine(),
        stages=tuple(stage.name for stage in cascade.artefact.stages),
        batch_sizes=tuple(choice.batch_size for choice in cascade.choices),
        n=len(subject.rows),
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
        single=time_one_input(cascade, subject.tensors[0], runs, requests),
        peers=tuple(_peer(name, models_only, filing) for name in models_only.peers),
        peer_n=len(few) if others else 0,
        energy=_energy(filing, meters),
        base_decode_share=base_decoding,
        decode_share=decoding_share,
        notes=(*_sizes_note(subject), *advice(decoding_share, chains, sample_reader(data, True)(subject.rows[0]))),
    )


def _subject(
    cascade: Cascade,
    data: Dataset,
    samples: int,
    exit_ratio: float | None,
    workers: int,
    tell: Tell,
    alone: bool = True,
) -> tuple[Subject, float]:
    """(what is timed, about how many milliseconds a turn takes per sample). alone: whether each stage is timed too."""
    rows, tensors, other_sizes = _prepare(cascade, data, samples, tell)
    cascade, k = _tuned(cascade, tensors, tell), len(tensors)
    forced = None if exit_ratio is None else _forced(len(rows), exit_ratio, k)
    subject = Subject(cascade, data, rows, tensors, forced, np.zeros(len(rows), np.int64), workers, other_sizes)
    supply = subject.files(slice(None))
    found = dataclasses.replace(subject, answered=subject.engine(decoding=True).run(supply).stage)
    inputs_ms = 1000 * sum(supply.spent) / len(rows) / workers
    stages_ms = [choice.ms or 0.0 for choice in cascade.choices]
    together = float(_reached(found.exit_ratio) @ np.array(stages_ms))
    by_itself = 2 * sum(stages_ms) + k * inputs_ms if alone else 0.0
    return found, 2 * together + inputs_ms + by_itself


def _prepare(cascade: Cascade, data: Dataset, samples: int, tell: Tell) -> tuple[list[int], list[F32], int]:
    """(readable samples whose tensors have the first one's shape, the tensors of the first of them for every stage, how
    many samples had another shape)."""
    rows: list[int] = []
    tensors: list[F32] = []
    others = 0
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
            held = min(limit, max(1, HELD_BYTES // sum(_bytes_of(tensor) for tensor in made)))
            tensors = [np.empty((held, *tensor.shape), tensor.dtype) for tensor in made]
        if any(array.shape[1:] != tensor.shape for array, tensor in zip(tensors, made, strict=True)):
            others += 1
            continue
        if len(rows) < len(tensors[0]):
            for array, tensor in zip(tensors, made, strict=True):
                array[len(rows), ...] = tensor
        rows.append(row)
        tell("reading samples", len(rows), limit)
    if not rows:
        raise DataError(f"none of the {quantity(len(data), 'sample')} of {data.spec} could be read")
    return rows, [array[: len(rows)] for array in tensors], others


def _bytes_of(one: F32) -> int:
    """Bytes of an input, or of a sample that is passed on whole."""
    if one.dtype != object:
        return one.nbytes
    held: Any = one.item()
    return len(held) if isinstance(held, str) else int(np.asarray(held).nbytes)


def _tuned(cascade: Cascade, tensors: Sequence[F32], tell: Tell) -> Cascade:
    """The cascade with each stage run in the fastest way on this machine, on the backend it has."""
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
                cascade.artefact.task,
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


def _decoding_ms(subject: Subject) -> float:
    """Time to read and decode every sample as the first stage does, in as many threads as the engine has."""
    decoding = subject.cascade.models[0].preprocessing.decoding

    def decode(i: int) -> None:
        sample = subject.read(i)
        if hasattr(sample, "decode"):
            sample.decode(*decoding)

    with ThreadPoolExecutor(subject.workers) as pool:
        return milliseconds(lambda: deque(pool.map(decode, range(len(subject.rows))), maxlen=0), len(subject.rows))


def _sizes_note(subject: Subject) -> tuple[str, ...]:
    """A note if images of other sizes than the first were left out."""
    size = " by ".join(str(side) for side in subject.tensors[0].shape[-2:])
    if not subject.other_sizes:
        return ()
    return (f"timed on images of {size} alone, as the first is; {subject.other_sizes:,} of other sizes were left out",)


def _reached(exit_ratio: Sequence[float]) -> NDArray[np.float64]:
    """Share of the samples that reach each stage."""
    return 1.0 - np.concatenate([[0.0], np.cumsum(exit_ratio)[:-1]])


def _times(found: Found, exit_ratio: Sequence[float]) -> Times:
    ideal = [float(_reached(exit_ratio) @ np.array(stages)) for stages in found.stages]
    return Times(
        stages_ms=tuple(Spread.of(list(column)) for column in zip(*found.stages, strict=True)),
        base_ms=Spread.of([run.ms for run in found.base]),
        ideal_ms=Spread.of(ideal),
        realised_ms=Spread.of([run.ms for run in found.cascade]),
        efficiency=Spread.of([i / run.ms for i, run in zip(ideal, found.cascade, strict=True)]),
    )


def _same_decoding(cascade: Cascade) -> NDArray[np.bool_]:
    """Whether each stage after the first uses the image that the stage before decoded; stages that share a backbone
    take no image."""
    how = [model.preprocessing.decoding for model in cascade.models]
    later = zip(how, how[1:], [shares for _, shares in cascade.runners][1:], strict=False)
    return np.array([before == after and not shares for before, after, shares in later], bool)


def _decoded_once(
    found: Found, exit_ratio: Sequence[float], decode: Sequence[float], same: NDArray[np.bool_]
) -> Spread:
    """Efficiency without the decoding time of stages that decode the *same* way as the stage before, bool (K - 1,)."""
    reached = _reached(exit_ratio)
    again = float(reached[1:] @ same)
    ideal = [float(reached @ np.array(ms)) - again * d for ms, d in zip(found.stages, decode, strict=True)]
    return Spread.of([i / run.ms for i, run in zip(ideal, found.cascade, strict=True)])


def _peer(name: str, alone: Found, whole: Found) -> PeerTimes:
    def ratio(found: Found) -> Spread:
        return Spread.of([p / run.ms for p, run in zip(found.peers[name], found.cascade, strict=True)])

    return PeerTimes(name, Spread.of(alone.peers[name]), Spread.of(whole.peers[name]), ratio(alone), ratio(whole))


def _energy(found: Found, meters: Sequence[Meter]) -> Energy | None:
    if not meters:
        return None
    base, ours = zip(*found.joules, strict=True)
    return Energy(tuple(meter.name for meter in meters), Spread.of(base), Spread.of(ours))
