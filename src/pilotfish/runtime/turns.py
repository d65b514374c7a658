"""What a bench times, in turn, so that a noisy machine affects everything equally."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.cascade import ALONE
from pilotfish.data import Dataset
from pilotfish.models.model import F32
from pilotfish.runtime.cascade import Cascade
from pilotfish.runtime.decoding_share import ClockedSupply, Run
from pilotfish.runtime.energy import Meter, total_joules
from pilotfish.runtime.engine import Engine
from pilotfish.runtime.peers import Inputs, Peer
from pilotfish.runtime.shared import alone, whole
from pilotfish.runtime.single_times import milliseconds
from pilotfish.runtime.stage import EngineStage
from pilotfish.runtime.supply import Supply, TensorSupply

Tell = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Subject:
    """What is timed. rows: the N readable samples; tensors: inputs of M of them, one array (M, …) per stage; forced:
    the stage that answers each sample, or None if scores decide; answered: the stage that did, -1 for an error;
    workers: threads that prepare inputs; other_sizes: how many samples were left out because of their input shape."""

    cascade: Cascade
    data: Dataset
    rows: list[int]
    tensors: list[F32]
    forced: NDArray[np.int64] | None
    answered: NDArray[np.int64]
    workers: int
    other_sizes: int = 0

    @property
    def exit_ratio(self) -> tuple[float, ...]:
        """Share of the samples with an answer that each stage answered."""
        counts = np.bincount(self.answered[self.answered >= 0], minlength=len(self.tensors))
        return tuple(float(x) for x in counts / max(1, counts.sum()))

    def supply(self, which: slice, decoding: bool) -> Supply:
        """Inputs of some stages: made from the samples on demand, or the tensors."""
        return self.files(which) if decoding else TensorSupply(self.tensors[which], len(self.rows))

    def files(self, which: slice) -> ClockedSupply:
        """Inputs of some stages, made from the samples on demand."""
        preprocessing = [model.preprocessing for model in self.cascade.models[which]]
        return ClockedSupply(self.read, len(self.rows), preprocessing, self.workers)

    def read(self, i: int) -> Any:
        """The *i*-th sample as the stages take it."""
        return self.cascade.reader(self.data)(self.rows[i])

    def engine(self, decoding: bool) -> Engine:
        """An engine of all stages. Tensors may stand in for other samples, which then exit where the tensors' samples
        did."""
        forced = self.forced if decoding else self.answered
        return Engine(self.cascade.engine_stages(), self.cascade.artefact.in_force, forced)

    def numbers(self) -> Supply:
        """Sample numbers instead of inputs, for a stage whose features were computed beforehand."""
        return TensorSupply([np.arange(len(self.rows), dtype=np.float32)[:, None]])

    def alone(self, k: int) -> EngineStage:
        """Stage *k* by itself, run as in the cascade."""
        stage = self.cascade.engine_stages()[k]
        runner = alone(self.cascade.runners, k, self.tensors[k])
        return dataclasses.replace(stage, backend=runner, shares=False, alone=None)

    def base(self) -> EngineStage:
        """The base from its inputs, also if the last stage continues from features."""
        stage, choice = self.cascade.engine_stages()[-1], self.cascade.choices[-1]
        if not stage.shares:
            return self.alone(len(self.tensors) - 1)
        found = whole(self.cascade.models[-1], choice.backend, choice.threads)
        return dataclasses.replace(stage, backend=found, shares=False, alone=None)

    def only(self, kept: NDArray[np.intp]) -> Subject:
        """The samples *kept*, in order."""
        every = len(self.tensors[0]) == len(self.rows)
        return dataclasses.replace(
            self,
            rows=[self.rows[i] for i in kept],
            tensors=[array[kept] if every else array[: len(kept)] for array in self.tensors],
            forced=None if self.forced is None else self.forced[kept],
            answered=self.answered[kept],
        )


@dataclass
class Found:
    """Turn by turn: milliseconds per sample of the stages alone and of peers by name, runs of the base and the cascade;
    joules of both."""

    stages: list[list[float]] = field(default_factory=list)
    base: list[Run] = field(default_factory=list)
    cascade: list[Run] = field(default_factory=list)
    peers: dict[str, list[float]] = field(default_factory=dict)
    joules: list[tuple[float, float]] = field(default_factory=list)


def time_in_turn(
    subject: Subject,
    decoding: bool,
    inputs: Inputs,
    peers: Sequence[Peer],
    beside: Mapping[str, Subject],
    runs: int,
    meters: Sequence[Meter],
    tell: Tell,
) -> Found:
    """Time everything in turn, *runs* times; a first turn is not counted.

    decoding  from file to answer; otherwise the models alone, with inputs made beforehand
    beside    other cascades, by the names they get among the peers
    """
    what, stages = "file to answer" if decoding else "models alone", subject.cascade.engine_stages()
    by_itself = dataclasses.replace(ALONE, task=subject.cascade.artefact.task)
    single = [Engine([subject.alone(k)], by_itself) for k in range(len(stages))]
    base = Engine([subject.base()], by_itself)
    full, others = subject.engine(decoding), {name: other.engine(decoding) for name, other in beside.items()}
    every = slice(None)
    n, found = len(subject.rows), Found()
    for turn in range(runs + 1):
        kept = found if turn else Found()
        tell(what, turn, runs + 1)
        times = []
        for k, engine in enumerate(single):
            source = subject.numbers() if stages[k].shares else subject.supply(slice(k, k + 1), decoding)
            before = total_joules(meters)
            times.append(Run.of(engine, source, n))
        if stages[-1].shares:
            before = total_joules(meters)
            kept.base.append(Run.of(base, subject.supply(slice(len(stages) - 1, None), decoding), n))
        else:
            kept.base.append(times[-1])
        joules = total_joules(meters) - before
        kept.stages.append([run.ms for run in times])
        before = total_joules(meters)
        kept.cascade.append(Run.of(full, subject.supply(every, decoding), n))
        kept.joules.append((joules / n, (total_joules(meters) - before) / n))
        for name, engine in others.items():
            other = beside[name]
            ms = Run.of(engine, other.supply(every, decoding), len(other.rows)).ms
            kept.peers.setdefault(name, []).append(ms)
        for peer in peers:
            ms = milliseconds(lambda p=peer: p.run(inputs), len(inputs))  # type: ignore[misc]
            kept.peers.setdefault(peer.name, []).append(ms)
    tell(what, runs + 1, runs + 1)
    return found
