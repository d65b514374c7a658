"""Cascade folders: ``cascade.json``, fitted scores and, where weights were embedded, ``weights/``."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path, PurePosixPath
from typing import Any, get_args, get_type_hints

from pilotfish._version import __version__
from pilotfish.cascade.artefact import Artefact, OperatingPoint, Stage
from pilotfish.cascade.budget import Budget
from pilotfish.cascade.frontier import Frontier, exit_sets_from_json, exit_sets_to_json
from pilotfish.cascade.numbers import from_json, to_json
from pilotfish.cascade.performance import Performance
from pilotfish.cascade.rule import Rule, rule_from_json
from pilotfish.cascade.score_file import read_scores, save_parameters, scores_document
from pilotfish.errors import ArtefactError
from pilotfish.files import read_json, write_json

SCHEMA_VERSION = 2
READS = (1, 2)  # version 1 had one plain score for all stages
FILE_NAME = "cascade.json"


def save_artefact(artefact: Artefact, folder: str | Path) -> Path:
    """Write ``cascade.json`` into *folder*, atomically; returns the folder."""
    target = Path(folder)
    stages = tuple(dataclasses.replace(stage, files=_files(stage, target)) for stage in artefact.stages)
    document = to_document(dataclasses.replace(artefact, stages=stages))
    target.mkdir(parents=True, exist_ok=True)
    save_parameters(artefact.scores, target)
    write_json(target / FILE_NAME, document)
    return target


def load_artefact(folder: str | Path) -> Artefact:
    """Read a cascade folder. ArtefactError when it is not one, is damaged, or points outside itself."""
    path = Path(folder)
    if not (path / FILE_NAME).is_file():
        found = "a file" if path.is_file() else "a folder without cascade.json" if path.is_dir() else "nothing there"
        raise ArtefactError(f"{path}: expected a cascade folder (as `pilotfish tune --out` writes), found {found}")
    return from_document(read_json(path / FILE_NAME, ArtefactError), str(path / FILE_NAME), path)


def _files(stage: Stage, folder: Path) -> tuple[str, ...]:
    """Where the stage's model lies as seen from *folder*, so that both can be moved together, and where it lay."""
    places = [file for file in stage.files if os.path.isabs(file)]
    if not places or stage.weights_file is not None:
        return ()
    return (Path(os.path.relpath(places[-1], folder.resolve())).as_posix(), places[-1])


def to_document(artefact: Artefact) -> dict[str, Any]:
    """The JSON document of ``cascade.json``."""
    point = artefact.operating_point
    return {
        "schema_version": SCHEMA_VERSION,
        "pilotfish_version": __version__,
        "stages": [dataclasses.asdict(stage) for stage in artefact.stages],
        "score": artefact.score,
        "scores": scores_document(artefact.scores),
        "rule": dataclasses.asdict(artefact.rule),
        "method": artefact.method,
        "cost_key": artefact.cost_key,
        "operating_point": {
            "thresholds": [to_json(t) for t in point.thresholds],
            "shown": [to_json(t) for t in artefact.shown_thresholds],
            "exit_sets": None if point.exit_sets is None else exit_sets_to_json(point.exit_sets),
            "budget": None if point.budget is None else dataclasses.asdict(point.budget),
        },
        "calibration": artefact.calibration.to_json(),
        "evaluation": None if artefact.evaluation is None else artefact.evaluation.to_json(),
        "guarantee": artefact.guarantee,
        "origin": dict(artefact.origin),
        "frontier": artefact.frontier.to_json(),
    }


def from_document(document: dict[str, Any], where: str, folder: Path | None = None) -> Artefact:
    """The inverse of :func:`to_document`; *where* names the file in errors, *folder* holds what the scores fitted."""
    version = document.get("schema_version")
    if version not in READS or isinstance(version, bool):
        raise ArtefactError(f"{where}: schema version {version!r}, this Pilotfish reads version {SCHEMA_VERSION}")
    try:
        point = document["operating_point"]
        budget = None if point["budget"] is None else _budget(**point["budget"])
        evaluation = document["evaluation"]
        _expect(document["origin"], dict, "origin")
        _expect(document["guarantee"], dict | None, "guarantee")
        _expect(document["cost_key"], str | None, "cost_key")
        sets = point.get("exit_sets")
        scores = document["scores"] if version > 1 else _version_1_scores(document)
        return Artefact(
            stages=tuple(_stage(entry, where) for entry in document["stages"]),
            score=str(document["score"]),
            scores=read_scores(scores, folder, where),
            rule=rule_from_json(document["rule"]) if version > 1 else Rule(),
            method=str(document["method"]),
            cost_key=document["cost_key"],
            frontier=Frontier.from_json(document["frontier"]),
            operating_point=OperatingPoint(
                tuple(from_json(t) for t in point["thresholds"]),
                budget,
                None if sets is None else exit_sets_from_json(sets),
            ),
            calibration=Performance.from_json(document["calibration"]),
            evaluation=None if evaluation is None else Performance.from_json(evaluation),
            origin=document["origin"],
            guarantee=document["guarantee"],
        )
    except ArtefactError as error:
        raise error if where in str(error) else ArtefactError(f"{where}: {error}") from error
    except (KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ArtefactError(
            f"{where}: damaged or incomplete ({error!r}); write it again with `pilotfish tune`"
        ) from error


def _version_1_scores(document: dict[str, Any]) -> list[dict[str, Any]]:
    one = {"name": document["score"], "scale": document["scale"], "parameters": []}
    return [one] * (len(document["stages"]) - 1)


def _expect(value: Any, types: Any, what: str) -> None:
    if isinstance(value, bool) or not isinstance(value, types):
        raise TypeError(f"{what} is {str(value)[:60]!r}")


def _budget(kind: Any, value: Any) -> Budget:
    if kind not in get_args(get_type_hints(Budget)["kind"]):
        raise TypeError(f"unknown kind of budget {str(kind)[:60]!r}")
    _expect(value, int | float, "the budget's value")
    return Budget(kind, float(value))


def _stage(entry: dict[str, Any], where: str) -> Stage:
    stage = Stage(**entry)
    _expect(stage.name, str, "a stage's name")
    for key in ("spec", "weights_hash", "preprocessing_hash", "weights_file", "records_created"):
        _expect(getattr(stage, key), str | None, key)
    _expect(stage.preprocessing, dict | None, "preprocessing")
    _expect(stage.n_classes, int | None, "n_classes")
    _expect(stage.class_names, list | None, "class_names")
    _expect(stage.costs, dict, "costs")
    for key, cost in stage.costs.items():
        _expect(cost, int | float, f"cost {key!r}")
        float(cost)  # an integer may be beyond it
    _expect(stage.files, list | tuple, "files")
    stage = dataclasses.replace(stage, files=tuple(str(file) for file in stage.files if "\0" not in str(file)))
    if stage.class_names is not None:
        stage = dataclasses.replace(stage, class_names=tuple(str(name) for name in stage.class_names))
    if stage.weights_file is not None:
        inside = PurePosixPath(stage.weights_file)
        if inside.is_absolute() or ".." in inside.parts or set(stage.weights_file) & {"\\", "\0"}:
            raise ArtefactError(
                f"{where}: weights file {stage.weights_file!r} lies outside the cascade folder; refused"
            )
    return stage


def weights_path(folder: Path, stage: Stage) -> Path | None:
    """The embedded weights of *stage*, or None; ArtefactError when links lead outside *folder*."""
    if stage.weights_file is None:
        return None
    path = (folder / stage.weights_file).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise ArtefactError(f"{folder}: weights file {stage.weights_file!r} leads outside the cascade folder; refused")
    if not path.is_file():
        raise ArtefactError(f"{folder}: the embedded weights {stage.weights_file} are missing")
    return path
