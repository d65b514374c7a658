"""One model in memory at a time: each stage over everything that reaches it, then the next (Little-Big, Table 9).

Peak memory is that of the largest model alone. Progress can be saved to a file after every few thousand samples.
"""

from __future__ import annotations

import ctypes
import dataclasses
import gc
import os
import sys
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.cascade import ALONE, Artefact, Stage, decide, load_artefact
from pilotfish.data import Dataset
from pilotfish.errors import ModelError, UsageError
from pilotfish.files import sha256_file, sha256_json
from pilotfish.machine import cpu_count
from pilotfish.models import Model, Preprocessing
from pilotfish.runtime.answers import Answer, Answers, answer_at
from pilotfish.runtime.choice import StageRuntime, default_runtime, held, read_choices
from pilotfish.runtime.engine import Engine
from pilotfish.runtime.inputs import Input, sorted_out
from pilotfish.runtime.load_stage import check_code, engine_stage, load_stage, with_threads
from pilotfish.runtime.save_answers import save_answers
from pilotfish.runtime.sequential_state import State
from pilotfish.runtime.supply import DecodingSupply

STRETCH = 4096  # samples between two times that the state may be written
SECONDS = 10.0
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
LARGE_BLOCK = 65536
Tell = Callable[[str, int, int], None]
Load = Callable[[Stage, str | None], Model]
Reader = Callable[[bool], Callable[[int], Any]]


def predict_sequentially(
    folder: str | Path,
    inputs: Input | Sequence[Input] | Dataset,
    *,
    artefact: Artefact | None = None,
    device: str = "cpu",
    state: str | Path | None = None,
    workers: int | None = None,
    progress: Callable[[str, int, int], None] | None = None,
    allow_python: Collection[str] = (),
    save: str | Path | None = None,
) -> list[Answer]:
    """As ``Cascade.predict``, with one model in memory at a time: each stage over everything that reaches it.

    inputs    as for ``Cascade.predict``; with a state only those that have names, files by path or a data set
    artefact  the cascade at an operating point other than the folder's own
    state     a file for progress, written after every few thousand samples; a killed run resumes from it
    allow_python  as for ``Cascade.load``
    save      as for ``Cascade.predict``
    """
    point = artefact or load_artefact(folder)
    check_code(point.stages, allow_python)
    given = sorted_out(inputs, [Preprocessing.from_json(stage.preprocessing or {}) for stage in point.stages])
    if state is not None and point.task.missing is None:
        raise UsageError(f"task {point.task.name} does not support --state; leave it out")
    if state is not None and not given.named:
        raise UsageError(
            "a state needs inputs that have names; give files by path or a data set, or leave the state out"
        )
    found = run_sequentially(
        folder,
        point,
        given.reader,
        given.names,
        device=device,
        state=state,
        workers=workers,
        progress=progress,
        allow_python=allow_python,
    )
    answers = [answer_at(name, i, i, found, point) for i, name in enumerate(given.names)]
    if save is not None:
        save_answers(answers, given.reader(False), point, save)
    return answers


def run_sequentially(
    folder: str | Path,
    artefact: Artefact,
    reader: Reader,
    names: Sequence[str],
    *,
    device: str = "cpu",
    state: str | Path | None = None,
    workers: int | None = None,
    progress: Tell | None = None,
    allow_python: Collection[str] = (),
) -> Answers:
    """Answers to the samples *names*, as the engine gives them, with one model in memory at a time.

    reader    called with whether a stage decodes files itself; returns what reads the i-th sample
    state     a file for progress; a killed run resumes from it. It is kept when everything is answered
    progress  called with (stage, samples done, samples that reach it)
    allow_python  code that stages may run; see :func:`pilotfish.runtime.load_stage.check_code`

    Raises ModelError when a stage cannot be run at all, ArtefactError for a state of another cascade or other inputs.
    """
    path, kept = Path(folder), None if state is None else Path(state)
    stand = State(_identity(path, artefact, names), len(names), len(artefact.stages), artefact.task)
    if kept is not None and os.path.lexists(kept):
        stand.read(kept)
    choices = read_choices(path, artefact, device)
    load: Load = lambda stage, backend: load_stage(stage, path, device, backend, allow_python)  # noqa: E731
    _hold_little_memory()
    while stand.current < len(artefact.stages):
        if len(stand.reached):
            choice = choices[stand.current] if choices else None
            _one_stage(stand, artefact, load, choice, reader, workers or cpu_count(), kept, progress)
        if stand.current + 1 == len(artefact.stages):
            name = artefact.stages[-1].name
            stand.errors |= dict.fromkeys(stand.survivors().tolist(), f"the outputs of {name} are not finite")
        stand.current, stand.done, stand.reached = stand.current + 1, 0, stand.survivors()
        if kept is not None:
            stand.write(kept)
        _give_back_memory()
    return Answers(stand.prediction, stand.confidence, stand.stage, stand.errors)


def _one_stage(
    stand: State,
    artefact: Artefact,
    load: Load,
    choice: StageRuntime | None,
    reader: Reader,
    workers: int,
    kept: Path | None,
    progress: Tell | None,
) -> None:
    """Load the current stage's model, run it over the remaining samples that reach it, and release it."""
    k, stage = stand.current, artefact.stages[stand.current]
    model = load(stage, choice.backend if choice else None)
    chosen, _ = held(choice or default_runtime(stage, model.backend.name), model.input_shape, stage.name)
    model = with_threads(model, chosen.threads)
    read = reader(model.preprocessing.decodes_itself)
    written = time.monotonic()
    while stand.done < len(stand.reached):
        if progress is not None:
            progress(stage.name, stand.done, len(stand.reached))
        rows = stand.reached[stand.done : stand.done + STRETCH]
        seen = _Seen()
        alone = dataclasses.replace(ALONE, task=artefact.task)
        engine = Engine(
            [engine_stage(stage.name, model, chosen, artefact.adjusters()[k])],
            alone,
            witness=seen,
            keep=artefact.in_force.keep(k),
        )
        supply = DecodingSupply(read, rows.tolist(), [model.preprocessing], workers)
        try:
            errors = engine.run(supply).errors
        except ModelError as error:
            if not stand.done:  # the model is at fault and not a sample
                raise
            errors = dict.fromkeys(range(len(rows)), str(error))
        for places, outputs in seen.batches:
            _note(stand, artefact, rows[places], outputs)
        stand.errors |= {int(rows[i]): text for i, text in errors.items() if i not in seen.rows}
        stand.done += len(rows)
        if kept is not None and (time.monotonic() - written > SECONDS or stand.done == len(stand.reached)):
            stand.write(kept)
            written = time.monotonic()
    if progress is not None:
        progress(stage.name, stand.done, len(stand.reached))


class _Seen:
    """What a one-stage engine returned for each sample; its own answers do not count."""

    def __init__(self) -> None:
        self.batches: list[tuple[NDArray[np.intp], Any]] = []
        self.rows: set[int] = set()

    def __call__(self, stage: int, rows: NDArray[np.intp], outputs: Any) -> None:
        self.batches.append((rows, outputs))
        self.rows.update(rows.tolist())


def _note(stand: State, artefact: Artefact, rows: NDArray[np.intp], outputs: Any) -> None:
    """Which of *rows* exit at the current stage and with what answer, by the same rule as in the engine."""
    k, in_force = stand.current, artefact.in_force
    so_far = [*(stand.memory.read(j, rows) for j in range(k)), outputs] if in_force.rule.remembers else [outputs]
    decision = decide(in_force.rule, in_force.scores, k, so_far, len(artefact.stages), artefact.task)
    exits = in_force.point.leaves(k, decision.values)
    stand.prediction[rows[exits]] = artefact.task.answer(decision.outputs)[exits]
    stand.confidence[rows[exits]] = decision.shown[exits]
    stand.stage[rows[exits]] = k
    if in_force.rule.remembers and k + 1 < len(artefact.stages):
        stand.memory.write(k, rows[~exits], outputs.take(~exits))


def _identity(folder: Path, artefact: Artefact, names: Sequence[str]) -> str:
    point = artefact.operating_point
    return sha256_json(
        [sha256_file(folder / "cascade.json"), [repr(t) for t in point.thresholds], repr(point.exit_sets), list(names)]
    )


def _hold_little_memory() -> None:
    """Ask the allocator, for the rest of the process, to map large blocks one by one and to return them when they are
    freed. Otherwise those of one model would still be held when the next one runs."""
    for option in (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD):
        _libc("mallopt", option, LARGE_BLOCK)


def _give_back_memory() -> None:
    """Freed memory stays with the process unless the allocator is asked to hand it back."""
    gc.collect()
    _libc("malloc_trim", 0)


def _libc(function: str, *arguments: int) -> None:
    if sys.platform == "linux":
        try:
            getattr(ctypes.CDLL("libc.so.6"), function)(*arguments)
        except (OSError, AttributeError):  # another C library
            return
