"""Single samples through a model, each alone and timed: what a request would take."""

from __future__ import annotations

import time

import numpy as np

from pilotfish.data import Dataset, sample_reader
from pilotfish.errors import ModelError, UnreadableSample
from pilotfish.machine import cpu_count, device_name
from pilotfish.models import Model
from pilotfish.models.model import model_errors
from pilotfish.models.preprocessing import draw_rows
from pilotfish.recording.planned import threads_of
from pilotfish.records import SampleTimes

MOST = 200
LEAST = 30  # fewer say nothing about a p95
WARM_UP = TRIED = 3
SHARE = 0.05  # of the time that the recording took, or
SECONDS = 2.0  # whichever is longer
FOR_LEAST = 10.0  # seconds for the fewest samples: less than timing batches of so slow a model has taken
FOR_LEAST_LATER = 60.0  # where nothing but the times is missing


def time_samples(
    data: Dataset, model: Model, device: str, seconds: float = SECONDS, for_least: float = FOR_LEAST
) -> SampleTimes | None:
    """Time up to 200 samples of *data*, drawn at random, within about *seconds*; a small data set more than once.

    for_least  seconds that 30 samples may take, however short *seconds* is

    None where 30 would take longer, or the model fails on a sample that comes alone. A callable is not timed either, as
    a call may cost money.
    """
    chain, backend = model.preprocessing, model.backend
    if backend.name == "python":
        return None
    backend = backend.with_threads(cpu_count()) if hasattr(backend, "with_threads") else backend
    read, clock = sample_reader(data, chain.decodes_itself), time.perf_counter
    found: list[tuple[float, float]] = []
    end = clock() + seconds
    for row in np.resize(draw_rows(len(data), MOST), WARM_UP + MOST).tolist():
        begun = clock()
        try:
            sample = read(row)
            decoded = clock()
            one = chain(sample)[None]
            with model_errors(model.spec, one):
                backend.step(one)
        except UnreadableSample:
            continue
        except ModelError:
            return None
        ended = clock()
        found.append((decoded - begun, ended - decoded))
        timed = len(found) - WARM_UP
        if timed == TRIED and LEAST * min(map(sum, found[WARM_UP:])) > max(seconds, for_least):
            return None
        if timed >= LEAST and ended > end:
            break
    if len(found) < WARM_UP + LEAST:
        return None
    # to a tenth of a microsecond
    reading, running = np.round(1000 * np.array(found[WARM_UP:]), 4).T.tolist()
    return SampleTimes(device, device_name(device), backend.name, threads_of(backend), tuple(reading), tuple(running))
