"""How each stage is run on one device: the fastest way that was measured, kept with the cascade.

``runtime.json`` in a cascade's folder holds one entry per device (its name, for a CPU the number of cores). Nothing in
it changes an answer beyond rounding: anything that does is a model of its own, with its own records.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pilotfish.cascade import Artefact, Stage
from pilotfish.documents import Within, as_document, read_as
from pilotfish.errors import ArtefactError
from pilotfish.files import read_json, write_json
from pilotfish.machine import cpu_count, device_name, total_memory
from pilotfish.models.backends.backends import NAMES

FILE = "runtime.json"
SCHEMA = 1
DEFAULT_BATCH = 8
MOST_BATCH, MOST_LANES = 4096, 64
ADVICE = "delete it and run pilotfish tune-runtime"


@dataclass(frozen=True)
class StageRuntime:
    """How one stage is run.

    backend         a name of ``models.backends.NAMES``; None for the device's default
    batch_size      how many samples its queue waits for
    threads         cores that one call uses; None if the backend does not control that
    lanes           concurrent calls
    ms              milliseconds per sample of the stage alone, if measured
    max_difference  largest difference of a probability from torch in eager mode, if measured
    """

    backend: str | None = None
    batch_size: Annotated[int, Within(1, MOST_BATCH)] = DEFAULT_BATCH
    threads: Annotated[int, Within(1)] | None = None
    lanes: Annotated[int, Within(1)] = 1
    ms: float | None = None
    max_difference: float | None = None

    def validate(self) -> None:
        """ValueError for an unknown backend, and for more threads or lanes than this machine can use."""
        if self.backend not in (None, *NAMES):
            raise ValueError(f"backend is {str(self.backend)[:40]!r}, expected one of {', '.join(NAMES)}")
        for key, most in (("lanes", max(MOST_LANES, cpu_count())), ("threads", cpu_count())):
            if (found := getattr(self, key)) is not None and found > most:
                raise ValueError(f"{key} is {found}, expected 1 to {most} on this machine")


def default_runtime(stage: Stage, backend: str) -> StageRuntime:
    """Without a measurement: the batch size with the least recorded time, and with ONNX Runtime and OpenVINO one call
    per core, which is nearly always faster than one call on all cores."""
    if backend in ("onnxruntime", "openvino"):
        return StageRuntime(backend, best_batch(stage), threads=1, lanes=cpu_count())
    return StageRuntime(backend, best_batch(stage))


def best_batch(stage: Stage) -> int:
    """The batch size with the least recorded time per sample; 8 if no time is known."""
    found = ((re.fullmatch(r"ms@\w+-b([0-9]{1,4})", key), ms) for key, ms in stage.costs.items())
    timed = [(ms, int(match[1])) for match, ms in found if match and 1 <= int(match[1]) <= MOST_BATCH]
    return min(timed)[1] if timed else DEFAULT_BATCH


def read_choices(folder: Path, artefact: Artefact, device: str) -> tuple[StageRuntime, ...] | None:
    """What was chosen for *device*; None if nothing was, or if it was chosen for other stages than the cascade has now.

    ArtefactError for a damaged file.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    entry = _read(path)["devices"].get(device_name(device))
    if entry is None:
        return None
    damaged: dict[str, Any] = {"where": f"{path}: cannot be used", "error": ArtefactError, "advice": ADVICE}
    entry = read_as(dict, entry, **damaged)
    listed = read_as(list, entry.get("stages"), at="stages", **damaged)
    if entry.get("models") != _models(artefact):
        return None
    stages = read_as(tuple[StageRuntime, ...], listed, at="stages", **damaged)
    if len(stages) != len(artefact.stages):
        raise ArtefactError(f"{path}: {len(stages)} stages are listed for {len(artefact.stages)} of the cascade")
    return stages


def write_choices(
    folder: Path, artefact: Artefact, device: str, stages: Sequence[StageRuntime], facts: Mapping[str, Any]
) -> Path:
    """Store the choice for *device*, keeping the entries of other devices. facts: how it was measured."""
    path = folder / FILE
    if path.is_symlink():
        raise ArtefactError(f"{path} is a link; what was measured is not written through links: remove it")
    document: dict[str, Any] = _read(path) if path.is_file() else {"schema": SCHEMA, "devices": {}}
    document["devices"][device_name(device)] = {
        "models": _models(artefact),
        "stages": as_document(stages),
        **facts,
    }
    write_json(path, document)
    return path


def _models(artefact: Artefact) -> list[dict[str, Any]]:
    return [{"name": s.name, "weights_hash": s.weights_hash} for s in artefact.stages]


def _read(path: Path) -> dict[str, Any]:
    document = read_json(path, ArtefactError)
    if document.get("schema") != SCHEMA or not isinstance(document.get("devices"), dict):
        raise ArtefactError(f"{path}: expected schema {SCHEMA} and devices; {ADVICE}")
    return document


def held(choice: StageRuntime, shape: Sequence[int] | None, name: str) -> tuple[StageRuntime, tuple[str, ...]]:
    """(*choice* with batches of inputs of *shape*, float32, that fit a quarter of this machine's memory in all lanes; a
    note if they are smaller). Batch sizes come from a file, and so may the shape."""
    most = max(1, total_memory() // (4 * choice.lanes * 4 * max(1, math.prod(shape or ()))))
    if choice.batch_size <= most:
        return choice, ()
    note = f"{name} runs in batches of {most} instead of {choice.batch_size}: more do not fit this machine's memory"
    return dataclasses.replace(choice, batch_size=most), (note,)
