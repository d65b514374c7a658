"""How each stage is run on one device: what was measured to be fastest, kept beside the cascade.

``runtime.json`` in a cascade's folder holds one entry per device (its name, for a CPU the number of cores). Nothing in
it changes an answer beyond rounding: what changes the numbers is a model of its own, with its own records.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pilotfish.cascade import Artefact, Stage
from pilotfish.errors import ArtefactError
from pilotfish.files import read_json, write_json
from pilotfish.machine import cpu_count, device_name, total_memory
from pilotfish.models.backends.backends import NAMES

FILE = "runtime.json"
SCHEMA = 1
DEFAULT_BATCH = 8
MOST_BATCH, MOST_LANES = 4096, 64


@dataclass(frozen=True)
class StageRuntime:
    """How one stage is run.

    backend         a name of ``models.backends.NAMES``; None for the device's default
    batch_size      how many samples its queue waits for
    threads         cores that one call uses; None where the backend has no say in it
    lanes           calls at the same time
    ms              milliseconds per sample of the stage alone, where it was measured
    max_difference  largest difference of a probability from torch in eager mode, where it was measured
    """

    backend: str | None = None
    batch_size: int = DEFAULT_BATCH
    threads: int | None = None
    lanes: int = 1
    ms: float | None = None
    max_difference: float | None = None


def default_runtime(stage: Stage, backend: str) -> StageRuntime:
    """Without a measurement: the batch size with the least recorded time, and with ONNX Runtime one call per core,
    which beats one call on all cores nearly always."""
    if backend == "onnxruntime":
        return StageRuntime(backend, best_batch(stage), threads=1, lanes=cpu_count())
    return StageRuntime(backend, best_batch(stage))


def best_batch(stage: Stage) -> int:
    """The batch size with the least recorded time per sample; 8 where no time is known."""
    found = ((re.fullmatch(r"ms@\w+-b([0-9]{1,4})", key), ms) for key, ms in stage.costs.items())
    timed = [(ms, int(match[1])) for match, ms in found if match and 1 <= int(match[1]) <= MOST_BATCH]
    return min(timed)[1] if timed else DEFAULT_BATCH


def read_choices(folder: Path, artefact: Artefact, device: str) -> tuple[StageRuntime, ...] | None:
    """What was chosen for *device*; None when nothing was, or for other stages than the cascade has now.

    ArtefactError for a damaged file.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    entry = _read(path)["devices"].get(device_name(device))
    if entry is None:
        return None
    if not isinstance(entry, dict) or not isinstance(entry.get("stages"), list):
        raise ArtefactError(f"{path}: cannot be used ({str(entry)[:120]}); delete it and run pilotfish tune-runtime")
    if entry.get("models") != _models(artefact):
        return None
    stages = tuple(_parsed(one, path) for one in entry["stages"])
    if len(stages) != len(artefact.stages):
        raise ArtefactError(f"{path}: {len(stages)} stages are listed for {len(artefact.stages)} of the cascade")
    return stages


def write_choices(
    folder: Path, artefact: Artefact, device: str, stages: Sequence[StageRuntime], facts: Mapping[str, Any]
) -> Path:
    """Keep what was chosen for *device*, beside what is kept for others. facts: how it was measured."""
    path = folder / FILE
    if path.is_symlink():
        raise ArtefactError(f"{path} is a link; what was measured is not written through links: remove it")
    document: dict[str, Any] = _read(path) if path.is_file() else {"schema": SCHEMA, "devices": {}}
    document["devices"][device_name(device)] = {
        "models": _models(artefact),
        "stages": [dataclasses.asdict(stage) for stage in stages],
        **facts,
    }
    write_json(path, document)
    return path


def _models(artefact: Artefact) -> list[dict[str, Any]]:
    return [{"name": s.name, "weights_hash": s.weights_hash} for s in artefact.stages]


def _read(path: Path) -> dict[str, Any]:
    document = read_json(path, ArtefactError)
    if document.get("schema") != SCHEMA or not isinstance(document.get("devices"), dict):
        raise ArtefactError(f"{path}: expected schema {SCHEMA} and devices; delete it and run pilotfish tune-runtime")
    return document


def _parsed(entry: Any, path: Path) -> StageRuntime:
    reason = ""
    try:
        found = StageRuntime(**entry)
        limits = {"batch_size": MOST_BATCH, "lanes": max(MOST_LANES, cpu_count()), "threads": cpu_count()}
        for key, most in limits.items():
            value = getattr(found, key)
            if not (value is None and key == "threads") and (type(value) is not int or not 1 <= value <= most):
                reason = f"{key} is {str(value)[:40]!r}, expected 1 to {most} on this machine"
                break
        if any(type(ms) not in (int, float) for ms in (found.ms, found.max_difference) if ms is not None):
            reason = "a measurement is no number"
        if found.backend not in (None, *NAMES):
            reason = f"backend is {str(found.backend)[:40]!r}, expected one of {', '.join(NAMES)}"
    except TypeError:
        reason = f"{str(entry)[:120]} is no stage"
    if reason:
        raise ArtefactError(f"{path}: cannot be used ({reason}); delete it and run pilotfish tune-runtime")
    return found


def held(choice: StageRuntime, shape: Sequence[int] | None, name: str) -> tuple[StageRuntime, tuple[str, ...]]:
    """(*choice* with batches of inputs of *shape*, float32, that fit a quarter of this machine's memory in all lanes; a
    note where they are smaller). Batch sizes come from a file, and so may the shape."""
    most = max(1, total_memory() // (4 * choice.lanes * 4 * max(1, math.prod(shape or ()))))
    if choice.batch_size <= most:
        return choice, ()
    note = f"{name} runs in batches of {most} instead of {choice.batch_size}: more do not fit this machine's memory"
    return dataclasses.replace(choice, batch_size=most), (note,)
