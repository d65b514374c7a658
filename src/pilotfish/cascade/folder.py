"""Cascade folders: ``cascade.json``, fitted scores and, if weights were embedded, ``weights/``."""

from __future__ import annotations

import dataclasses
import itertools
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pilotfish._version import __version__
from pilotfish.cascade.artefact import Artefact, Stage
from pilotfish.cascade.score_file import FILES as SCORES_FILES
from pilotfish.cascade.score_file import read_scores, save_parameters, scores_document
from pilotfish.documents import as_document, read_as
from pilotfish.errors import ArtefactError
from pilotfish.files import read_json, write_json
from pilotfish.tasks import CLASSES
from pilotfish.tasks.task import Task, task_in

SCHEMA_VERSION = 2
READS = (1, 2)  # version 1 had one plain score for all stages
FILE_NAME = "cascade.json"
WEIGHTS = "weights"
EMBEDDED = re.compile(r"\d+(-\d+)?\.\w+")
OWN_NAMES = (FILE_NAME, *SCORES_FILES, "runtime.json", WEIGHTS)


def save_artefact(artefact: Artefact, folder: str | Path) -> Path:
    """Write a cascade into *folder*; returns the folder. ArtefactError if :func:`check_target` refuses it.

    New files are written beside those that the current ``cascade.json`` needs, and ``cascade.json`` is replaced last
    and atomically: if writing is interrupted, the folder still holds the old cascade.
    """
    target = Path(folder)
    check_target(target)
    stages = tuple(dataclasses.replace(stage, files=_files(stage, target)) for stage in artefact.stages)
    document = to_document(dataclasses.replace(artefact, stages=stages))
    target.mkdir(parents=True, exist_ok=True)
    scores = save_parameters(artefact.scores, target, document["scores"])
    write_json(target / FILE_NAME, document)
    for name in SCORES_FILES:
        if name != scores:
            (target / name).unlink(missing_ok=True)
    return target


def free_name(folder: Path, name: str) -> str:
    """*name*, such as ``weights/0.onnx``, for a file in *folder*; another name if the cascade there uses that one."""
    try:
        named = (folder / FILE_NAME).read_text(encoding="utf-8")
    except (OSError, ValueError):
        return name
    path = PurePosixPath(name)
    others = (str(path.with_stem(f"{path.stem}-{k}")) for k in itertools.count(2))
    return next(one for one in itertools.chain([name], others) if f'{one}"' not in named)


def remove_unnamed(folder: Path) -> None:
    """Remove weights that Pilotfish embedded in *folder* and the cascade in it no longer names."""
    named = (folder / FILE_NAME).read_text(encoding="utf-8")
    for file in (folder / WEIGHTS).glob("*"):
        if EMBEDDED.fullmatch(file.name) and f'{WEIGHTS}/{file.name}"' not in named:
            file.unlink(missing_ok=True)


def check_target(folder: Path) -> None:
    """ArtefactError if a cascade cannot safely be written into *folder*: it holds something else, or a file to be
    written is a link."""
    if not folder.is_dir():
        return  # nothing there, or a file: reported when the folder is made
    for name in OWN_NAMES:
        if (folder / name).is_symlink():
            raise ArtefactError(
                f"{folder / name} is a link; a cascade is not written through links: name another folder"
            )
    there = {path.name for path in folder.iterdir()}
    if not there or there == {WEIGHTS} or _is_ours(folder / FILE_NAME):
        return  # a folder with only weights is one whose embedding was interrupted
    found = f"a {FILE_NAME} of something else" if FILE_NAME in there else sorted(there)[0]
    raise ArtefactError(f"{folder} is not a cascade folder (it holds {found}); name a new or an empty one")


def _is_ours(file: Path) -> bool:
    try:
        return file.is_file() and {"schema_version", "stages"} <= read_json(file, ArtefactError).keys()
    except ArtefactError:
        return False


def load_artefact(folder: str | Path) -> Artefact:
    """Read a cascade folder. ArtefactError when it is not one, is damaged, or points outside itself."""
    path = Path(folder)
    if not (path / FILE_NAME).is_file():
        found = "a file" if path.is_file() else "a folder without cascade.json" if path.is_dir() else "nothing there"
        raise ArtefactError(f"{path}: expected a cascade folder (as `pilotfish tune --out` writes), found {found}")
    return from_document(read_json(path / FILE_NAME, ArtefactError), str(path / FILE_NAME), path)


def _files(stage: Stage, folder: Path) -> tuple[str, ...]:
    """Paths of the stage's model: relative to *folder*, so that both can be moved together, and where it was
    recorded."""
    places = [file for file in stage.files if os.path.isabs(file)]
    if not places or stage.weights_file is not None:
        return ()
    return (Path(os.path.relpath(places[-1], folder.resolve())).as_posix(), places[-1])


def to_document(artefact: Artefact) -> dict[str, Any]:
    """The JSON document of ``cascade.json``."""
    document: dict[str, Any] = as_document(artefact, without=("scores", "task"))
    if artefact.task.name != CLASSES.name:
        document["task"] = artefact.task.name
    document["scores"] = scores_document(artefact.scores)
    point = artefact.operating_point
    compared = point.compared if point.exit_sets is not None else tuple(at for (at,) in point.compared)
    document["operating_point"] |= as_document({"shown": artefact.shown_thresholds, "decide_at": compared})
    return {"schema_version": SCHEMA_VERSION, "pilotfish_version": __version__, **document}


@dataclass(frozen=True)
class _Beside:
    """A promise besides a guarantee's own target: for a class, or for the latency."""

    target: float
    bound: float
    n: int


@dataclass(frozen=True)
class _Guarantee:
    """The parts of a guarantee that are shown as numbers."""

    kind: str
    target: float | None = None
    bound: float | None = None
    confidence: float | None = None
    n: int | None = None
    groups: int | None = None
    largest_group: int | None = None
    classes: Mapping[str, _Beside] | None = None
    latency: _Beside | None = None


def from_document(document: dict[str, Any], where: str, folder: Path | None = None) -> Artefact:
    """The inverse of :func:`to_document`; *where* names the file in errors, *folder* holds the fitted parameters of
    scores."""
    version = document.get("schema_version")
    if version not in READS or isinstance(version, bool):
        raise ArtefactError(f"{where}: schema version {version!r}, this Pilotfish reads version {SCHEMA_VERSION}")
    damaged: dict[str, Any] = {
        "where": f"{where}: damaged or incomplete",
        "error": ArtefactError,
        "advice": "write it again with `pilotfish tune`",
    }
    found = {key: value for key, value in document.items() if key not in ("schema_version", "pilotfish_version")}
    if version == 1:
        one = {"name": found.get("score"), "scale": found.pop("scale", None), "parameters": []}
        found["scores"] = [one] * (len(read_as(list, found.get("stages"), at="stages", **damaged)) - 1)
        found["rule"] = {"kind": "score"}
    point = found.get("operating_point")
    if isinstance(point, dict):
        found["operating_point"] = {key: value for key, value in point.items() if key != "shown"}
        if isinstance(compared := point.get("decide_at"), list):
            found["operating_point"]["decide_at"] = [at if isinstance(at, list) else [at] for at in compared]
    if found.get("guarantee") is not None:
        read_as(_Guarantee, found["guarantee"], at="guarantee", unknown="ignore", **damaged)
    task = _measured(task_in(found.pop("task", CLASSES.name), where, ArtefactError), found, where)
    scores = read_scores(found.get("scores"), folder, where, task)
    return read_as(Artefact, found, given={"scores": scores, "task": task}, **damaged)


def _measured(task: Task, found: Mapping[str, Any], where: str) -> Task:
    """*task* with the metric that the cascade was tuned for."""
    judged = found.get("calibration")
    metric = judged.get("metric") if isinstance(judged, dict) else None
    if metric is None:
        return task
    known = {one.name for one in (task.metric, *task.metrics)}
    if not isinstance(metric, str) or metric not in known:
        raise ArtefactError(f"{where}: its metric {str(metric)[:60]!r} is not one of task {task.name}")
    return task.by_metric(metric)


def weights_path(folder: Path, file: str | None) -> Path | None:
    """The path of an embedded *file*, None for none; ArtefactError if links lead outside *folder*."""
    if file is None:
        return None
    try:
        path = (folder / file).resolve()
        inside, there = path.is_relative_to(folder.resolve()), path.is_file()
    except (OSError, RuntimeError, ValueError) as error:  # a name that is too long, circular links
        raise ArtefactError(f"{folder}: weights file {file[:60]!r} cannot be read") from error
    if not inside:
        raise ArtefactError(f"{folder}: weights file {file!r} leads outside the cascade folder; refused")
    if not there:
        raise ArtefactError(f"{folder}: the embedded weights {file} are missing")
    return path
