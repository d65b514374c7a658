"""Fitted scores in a cascade folder: names and units in ``cascade.json``, parameters in ``scores.safetensors``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from pilotfish.documents import Within, read_as
from pilotfish.errors import ArtefactError
from pilotfish.files import atomic_path, read_json
from pilotfish.records import from_logits
from pilotfish.scores import ExitScore, Scale, compute
from pilotfish.scores.outputs import TOP_K
from pilotfish.tasks import CLASSES, Task

FILE_NAME = "scores.safetensors"
FILES = (FILE_NAME, "scores-2.safetensors")
"""Two, so that one is written while a cascade in the folder still needs the other."""
MAX_BYTES = 256 * 2**20


@dataclass(frozen=True)
class _Entry:
    """A score in ``cascade.json``: an :class:`ExitScore` with the names of its parameters."""

    name: str
    scale: Scale
    parameters: tuple[str, ...]
    top_k: Annotated[int, Within(1, TOP_K)] = 1
    file: str = FILE_NAME

    def validate(self) -> None:
        """ValueError for a file name that a cascade does not use."""
        if self.file not in FILES:
            raise ValueError(f"file is {self.file[:40]!r}, expected one of {', '.join(FILES)}")


def scores_document(scores: tuple[ExitScore, ...]) -> list[dict[str, Any]]:
    """The entry ``scores`` of ``cascade.json``."""
    return [{"name": s.name, "scale": s.scale, "parameters": sorted(s.parameters), "top_k": s.top_k} for s in scores]


def save_parameters(scores: tuple[ExitScore, ...], folder: Path, document: list[dict[str, Any]]) -> str | None:
    """Write the parameters of all stages' scores, and name their file in *document* if it is not the usual one. Returns
    that file, None if no score was fitted. The file of the cascade that is already in *folder* is kept."""
    arrays = {f"{k}.{key}": np.ascontiguousarray(v) for k, s in enumerate(scores) for key, v in s.parameters.items()}
    if not arrays:
        return None
    from safetensors.numpy import save_file

    file = FILES[0] if _file_in_use(folder) != FILES[0] else FILES[1]
    with atomic_path(folder / file) as temporary:
        save_file(arrays, temporary)
    for entry in document:
        if entry["parameters"] and file != FILE_NAME:
            entry["file"] = file
    return file


def _file_in_use(folder: Path) -> str | None:
    """The file of the cascade in *folder*; None if it has none, or if there is no cascade that could run."""
    try:
        document = read_json(folder / "cascade.json", ArtefactError)["scores"]
        entries = [entry for entry in document if entry["parameters"]]
        return str(entries[0].get("file", FILE_NAME)) if entries else None
    except (ArtefactError, LookupError, TypeError, AttributeError):
        return None


def read_scores(document: Any, folder: Path | None, where: str, task: Task = CLASSES) -> tuple[ExitScore, ...]:
    """The scores of ``cascade.json``, with their parameters. ArtefactError unless they are all there, finite, and of
    shapes that give a number per sample."""
    damaged = f"{where}: damaged or incomplete"
    entries = read_as(tuple[_Entry, ...], document, damaged, ArtefactError, at="scores", advice="tune again")
    files = {entry.file for entry in entries if entry.parameters}
    arrays = {file: _arrays(folder, where, file) for file in files}
    scores = []
    for k, entry in enumerate(entries):
        kind = task.scores.get(entry.name)
        if kind is None:
            raise ArtefactError(
                f"{damaged}: unknown score {entry.name[:60]!r} of task {task.name}; is it from a newer Pilotfish?"
            )
        if (kind.fit is not None) != bool(entry.parameters):
            raise ArtefactError(f"{damaged}: the parameters of score {entry.name} are damaged; tune again")
        missing = [key for key in entry.parameters if f"{k}.{key}" not in arrays[entry.file]]
        if missing:
            raise ArtefactError(f"{where}: {entry.file} has no {missing[0]!r} of stage {k}; tune again")
        parameters = {key: arrays[entry.file][f"{k}.{key}"] for key in entry.parameters}
        scores.append(ExitScore(kind, entry.scale, parameters, entry.top_k))
        _try(scores[k], k, where, task)
    return tuple(scores)


def _try(score: ExitScore, k: int, where: str, task: Task) -> None:
    """Score two samples, so that parameters which do not fit together are found now and not on the first input."""
    if not score.parameters or not task.classes:
        return
    samples = from_logits(np.array([[2.0, 1.0, *[0.0] * TOP_K], [0.0, 3.0, *[1.0] * TOP_K]]), top_k=score.top_k)
    try:
        values = compute(score, samples).values
    except (KeyError, ValueError, IndexError, TypeError) as error:
        raise ArtefactError(
            f"{where}: the parameters of score {score.name} of stage {k} do not fit; tune again"
        ) from error
    if values.shape != (2,) or not np.isfinite(values).all():
        raise ArtefactError(f"{where}: the parameters of score {score.name} of stage {k} give no scores; tune again")


def _arrays(folder: Path | None, where: str, file: str) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    path = None if folder is None else folder / file
    if path is None or not path.is_file():
        raise ArtefactError(f"{where}: the scores were fitted, and {file} is not there; copy the whole folder")
    if folder is not None and not path.resolve().is_relative_to(folder.resolve()):
        raise ArtefactError(f"{where}: {file} leads outside the cascade folder; refused")
    if path.stat().st_size > MAX_BYTES:
        raise ArtefactError(f"{where}: {file} has {path.stat().st_size} bytes, {MAX_BYTES} at most; refused")
    try:
        arrays: dict[str, Any] = load_file(path)
    except (SafetensorError, OSError, ValueError, TypeError, LookupError, AttributeError) as error:  # unknown dtypes
        raise ArtefactError(f"{where}: {file} is damaged ({error}); tune again") from error
    for key, array in arrays.items():
        if array.dtype != np.float64 or not np.isfinite(array).all():
            raise ArtefactError(f"{where}: {key!r} in {file} is not finite float64; tune again")
    return arrays
