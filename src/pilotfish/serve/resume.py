"""Saves what a served cascade has seen to the state file, and restores it after a restart."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pilotfish.cascade import Artefact, OperatingPoint
from pilotfish.documents import as_document, read_as
from pilotfish.errors import ArtefactError, StateError, reason
from pilotfish.files import sha256_json
from pilotfish.serve.point import Point, begin_point
from pilotfish.serve.watch.labels import Kept
from pilotfish.serve.watch.store import Key, Store

if TYPE_CHECKING:
    from pilotfish.serve.hosted import Hosted, Running

PART = "served"


def identity(artefact: Artefact) -> str:
    """The identity of a cascade, in 16 hex digits: its models, how it decides, and the points it can move to.

    *artefact* is as saved in its folder: the point it was tuned to counts, later moves do not.
    """
    stages = [
        (stage.name, stage.weights_hash, stage.preprocessing_hash, stage.onnx_hash, as_document(stage.adjustment))
        for stage in artefact.stages
    ]
    points = [as_document(each) for each in (artefact.frontier.thresholds, artefact.frontier.exit_sets)]
    points.append(as_document(artefact.operating_point.bounds))
    scores = [(score.name, score.scale, as_document(score.parameters)) for score in artefact.scores]
    return sha256_json([stages, artefact.task.name, as_document(artefact.rule), scores, points])[:16]


def keep_state(hosted: Hosted, store: Store) -> list[str]:
    """Restore the cascade's state from *store*, and save it there from now on. Returns notes for the operator, one line
    each. Raises StateError if the state is damaged."""
    keeper = _Keeper(hosted, store)
    notes = keeper.resume()
    store.ask(keeper.put)
    return notes


class _Keeper:
    """Moves state between one cascade and the store. idle: parts of the state whose monitor is off now, kept while
    their operating point is in force."""

    def __init__(self, hosted: Hosted, store: Store) -> None:
        self.hosted, self.store = hosted, store
        self.idle: dict[str, Any] = {}
        self.idle_at = ""
        self.known = (hosted.running.loaded, identity(hosted.running.loaded))

    def key(self, loaded: Artefact) -> Key:
        if loaded is not self.known[0]:
            self.known = (loaded, identity(loaded))
        return self.hosted.name, self.known[1]

    def put(self) -> None:
        hosted, now = self.hosted, self.hosted.running
        point, key = now.point, self.key(now.loaded)
        seen = {name: part.to_state() for name, part in _parts(hosted, now)}
        if point.id == self.idle_at:
            seen = {**self.idle, **seen}
        self.store.put(key, PART, {"point": _said(point), "seen": seen})
        labels = now.labels
        if labels is not None and (changed := labels.take_changed()):
            rows = {name: (kept.at, as_document(kept)) for name, kept in changed.items()}
            self.store.keep(key, rows, labels.oldest)

    def resume(self) -> list[str]:
        hosted, path = self.hosted, self.store.path
        key = self.key(hosted.running.loaded)
        document = self.store.get(key, PART)
        if document is None:
            if others := self.store.others(key):
                said = (
                    f"{path} has the state of another cascade by the name {hosted.name} (other weights or thresholds, "
                    f"{others[0]}), which stays there unused; audits start over"
                )
                return [said]
            return []
        answers = self.store.answers(key)
        try:
            return self._taken(document, {name: _kept(row) for name, (_, row) in answers.items()})
        except (ArtefactError, ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            raise StateError(
                f"{path}: the state of {hosted.name} is damaged ({reason(error)}); move the file away to start over"
            ) from error

    def _taken(self, document: Mapping[str, Any], answers: Mapping[str, Kept]) -> list[str]:
        hosted, said, seen = self.hosted, document["point"], dict(document["seen"])
        artefact = _at(hosted.artefact, said)
        hosted.number = int(said["id"])  # the next point has the next number
        point = begin_point(str(hosted.number), artefact, hosted.options)
        hosted.resume(dataclasses.replace(point, since=float(said["since"])))
        if hosted.labels is not None:
            hosted.labels.begin(point.id)
            if "labels" in seen:
                hosted.labels.restore(seen["labels"], answers)
            if hosted.labels.point != point.id:  # the process ended between two moves
                hosted.labels.begin(point.id)
        notes = []
        for name, part in _parts(hosted, hosted.running):
            if name in seen and name != "labels" and part.restore(seen[name]) is False:
                notes.append(f"{hosted.name}: {name} starts over, as its reference was measured again")
        drift = hosted.point.drift
        if drift is not None and drift.alarm is not None:  # it is still in force
            hosted.history.alarmed(hosted.point.id, drift.alarm)
        active = {name for name, _ in _parts(hosted, hosted.running)}
        self.idle, self.idle_at = {name: state for name, state in seen.items() if name not in active}, hosted.point.id
        audit = hosted.point.audit
        audits = "" if audit is None else f", {audit.n} audits"
        since = _moment(hosted.point.since)
        where = f"{hosted.name} continues from {self.store.path}: operating point {said['id']} since {since}{audits}"
        return [where, *notes]


def _parts(hosted: Hosted, now: Running) -> Iterator[tuple[str, Any]]:
    """Everything that has state, by name."""
    point = now.point
    found = {
        "audit": point.audit,
        "shadow": point.shadow,
        "drift": point.drift,
        **{f"map {k}": one for k, one in enumerate(point.maps)},
        "labels": now.labels,
        "governor": hosted.governor,
        "spending": hosted.spending,
    }
    return ((name, part) for name, part in found.items() if part is not None)


def _said(point: Point) -> dict[str, Any]:
    policy = as_document(point.artefact.operating_point)
    policy.pop("decide_at", None)
    return {"id": point.id, "since": point.since, "policy": policy}


def _at(artefact: Artefact, said: Mapping[str, Any]) -> Artefact:
    """*artefact* at the saved operating point. A guarantee holds only for the point it was made for."""
    point = read_as(OperatingPoint, said["policy"], "the operating point", ArtefactError)
    if len(point.thresholds) != len(artefact.operating_point.thresholds):
        raise ValueError(f"an operating point of {len(point.thresholds)} thresholds")
    if point.same_as(artefact.operating_point):
        return artefact
    return dataclasses.replace(artefact, operating_point=point, guarantee=None)


def _kept(row: Sequence[Any]) -> Kept:
    found = Kept(*row)
    return found._replace(score=math.nan if found.score is None else float(found.score))


def _moment(at: float) -> str:
    import datetime

    return datetime.datetime.fromtimestamp(at, datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
