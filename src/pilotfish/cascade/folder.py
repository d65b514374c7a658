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
from pilotfish.cascade.score_file import FILE_NAME as SCORES_FILE
from pilotfish.cascade.score_file import read_scores, save_parameters, scores_document
from pilotfish.errors import ArtefactError
from pilotfish.files import read_json, write_json
from pilotfish.records import MAX_COST

SCHEMA_VERSION = 2
READS = (1, 2)  # version 1 had one plain score for all stages
FILE_NAME = "cascade.json"
WEIGHTS = "weights"
KINDS_OF_GUARANTEE = ("drop", "accuracy", "agreement", "cost")
OWN_NAMES = (FILE_NAME, SCORES_FILE, "runtime.json", WEIGHTS)


def save_artefact(artefact: Artefact, folder: str | Path) -> Path:
    """Write ``cascade.json`` into *folder*, atomically; returns the folder. ArtefactError where :func:`check_target`
    refuses it."""
    target = Path(folder)
    check_target(target)
    stages = tuple(dataclasses.replace(stage, files=_files(stage, target)) for stage in artefact.stages)
    document = to_document(dataclasses.replace(artefact, stages=stages))
    target.mkdir(parents=True, exist_ok=True)
    save_parameters(artefact.scores, target)
    write_json(target / FILE_NAME, document)
    return target


def check_target(folder: Path) -> None:
    """ArtefactError where a cascade cannot be written into *folder* without harm: it holds something else, or what
    would be written there is a link."""
    if not folder.is_dir():
        return  # nothing there, or a file: said when the folder is made
    for name in OWN_NAMES:
        if (folder / name).is_symlink():
            raise ArtefactError(
                f"{folder / name} is a link; a cascade is not written through links: name another folder"
            )
    there = {path.name for path in folder.iterdir()}
    if not there or there == {WEIGHTS} or _is_ours(folder / FILE_NAME):
        return  # a folder with weights alone is one whose embedding was cut off
    found = f"a {FILE_NAME} of something else" if FILE_NAME in there else sorted(there)[0]
    raise ArtefactError(f"{folder} is no cascade folder (it holds {found}); name a new or an empty one")


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
        _check_guarantee(document["guarantee"])
        _expect(document["cost_key"], str | None, "cost_key")
        sets = point.get("exit_sets")
        scores = document["scores"] if version > 1 else _version_1_scores(document)
        made = Artefact(
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
        _check_together(made)
        return made
    except ArtefactError as error:
        raise error if where in str(error) else ArtefactError(f"{where}: {error}") from error
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        reason = f"{type(error).__name__}: {error}"[:160]
        raise ArtefactError(
            f"{where}: damaged or incomplete ({reason}); write it again with `pilotfish tune`"
        ) from error


def _check_together(artefact: Artefact) -> None:
    """ArtefactError where parts that are each sound do not belong together."""
    stages = len(artefact.stages)
    if stages < 2:
        raise ArtefactError(f"a cascade has a saver and a base, found {stages} stage")
    for what, part in (("calibration", artefact.calibration), ("evaluation", artefact.evaluation)):
        if part is not None and len(part.exit_ratio) != stages:
            raise ArtefactError(f"{what} has {len(part.exit_ratio)} exit ratios for {stages} stages")
    sets = artefact.operating_point.exit_sets
    if sets is not None and len(sets) != stages - 1:
        raise ArtefactError(f"the operating point has {len(sets)} exit sets for {stages} stages")


def _check_guarantee(guarantee: Any) -> None:
    _expect(guarantee, dict | None, "guarantee")
    if guarantee is None:
        return
    if guarantee.get("kind") not in KINDS_OF_GUARANTEE:
        raise TypeError(f"unknown kind of guarantee {str(guarantee.get('kind'))[:60]!r}")
    for key in {"target", "bound", "confidence", "n", "groups", "largest_group"} & guarantee.keys():
        whole = key in ("n", "groups", "largest_group")
        _expect(guarantee[key], int if whole else int | float, f"the guarantee's {key}")
        float(guarantee[key])


def _version_1_scores(document: dict[str, Any]) -> list[dict[str, Any]]:
    one = {"name": document["score"], "scale": document["scale"], "parameters": []}
    return [one] * (len(document["stages"]) - 1)


def _expect(value: Any, types: Any, what: str) -> None:
    if isinstance(value, bool) or not isinstance(value, types):
        raise TypeError(f"{what} is {str(value)[:60]!r}")


def _budget(kind: Any, value: Any) -> Budget:
    kind = "min_metric" if kind == "min_accuracy" else kind  # as it was called
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
        _expect(cost, int | float, f"cost {key[:60]!r}")
        if not 0 <= cost <= MAX_COST:
            raise ValueError(f"cost {key[:60]!r} is {cost}, no finite number of at least 0")
    if stage.n_classes is not None and stage.n_classes < 1:
        raise ValueError(f"n_classes is {stage.n_classes}")
    _expect(stage.files, list | tuple, "files")
    stage = dataclasses.replace(stage, files=tuple(str(file) for file in stage.files if "\0" not in str(file)))
    if stage.class_names is not None:
        names = tuple(str(name) for name in stage.class_names)
        if stage.n_classes is not None and stage.n_classes != len(names):
            raise ValueError(f"stage {stage.name} has {stage.n_classes} classes and {len(names)} class_names")
        stage = dataclasses.replace(stage, class_names=names)
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
    try:
        path = (folder / stage.weights_file).resolve()
        inside, there = path.is_relative_to(folder.resolve()), path.is_file()
    except (OSError, RuntimeError, ValueError) as error:  # a name that is too long, links that go round
        raise ArtefactError(f"{folder}: weights file {stage.weights_file[:60]!r} cannot be looked at") from error
    if not inside:
        raise ArtefactError(f"{folder}: weights file {stage.weights_file!r} leads outside the cascade folder; refused")
    if not there:
        raise ArtefactError(f"{folder}: the embedded weights {stage.weights_file} are missing")
    return path
