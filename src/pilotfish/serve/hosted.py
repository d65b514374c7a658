"""One served cascade: its engine, the operating point in force, and how requests pass through both."""

from __future__ import annotations

import threading
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pilotfish.cascade import Artefact
from pilotfish.cascade.budget import plain_cost
from pilotfish.errors import EngineClosed, ModelError, PilotfishError
from pilotfish.runtime import Cascade, Engine
from pilotfish.runtime.warm_up import warm_up
from pilotfish.serve.asking import ask
from pilotfish.serve.options import ServeOptions
from pilotfish.serve.point import Move, Point, begin_point
from pilotfish.serve.reload import files_of
from pilotfish.serve.report.history import History
from pilotfish.serve.report.logs import Log
from pilotfish.serve.report.metrics import Meter
from pilotfish.serve.served import Caller, Entry, Reply
from pilotfish.serve.takes import Takes
from pilotfish.serve.watch.drift import Alarm
from pilotfish.serve.watch.fair import Fair
from pilotfish.serve.watch.governor import governor_of
from pilotfish.serve.watch.labels import Labels
from pilotfish.serve.watch.spending import Spending, budget_notes, check_budget, spending_of

State = Literal["WARMING", "READY", "DRAINING"]


@dataclass(frozen=True)
class Running:
    """What answers a request. It is replaced as a whole, so a request keeps the one it started with.

    loaded  the cascade as saved in its folder
    labels  answers by id and what their labels show; None if answers are not classes
    takes   which inputs it accepts
    """

    cascade: Cascade
    engine: Engine
    point: Point
    loaded: Artefact
    labels: Labels | None
    takes: Takes


class Hosted:
    """A cascade served under a name.

    running             the current cascade, engine and operating point
    notes               what the operator should know, one line each
    meter               counters
    files               the files of the folder before it was first loaded
    history             the last minutes, for the console
    fair                decides whose turn it is
    shape               of the last array that was answered; None before the first
    governor, spending  the limits on escalations and on cost per hour; None: no limit
    """

    version = "1"

    def __init__(self, name: str, folder: Path, options: ServeOptions, log: Log | None = None) -> None:
        self.name, self.folder, self.options = name, folder, options
        self.log = log or Log(options.log_format)
        self.state: State = "WARMING"
        self.history = History()
        self.number, self._lock, self.files = 0, threading.Lock(), files_of(folder)
        self.shape: tuple[int, ...] | None = None
        self._closing: list[Engine] = []  # engines of earlier loads, which still have a batch to finish
        self._loading = threading.Lock()  # held while stages are warmed up, or the folder is loaded again
        cascade = self.load()
        self.meter = Meter(cascade.artefact)
        self.fair, self.governor = Fair(options.queue), governor_of(options)
        self.running = self._begin(cascade)
        budget = spending_of(options, cascade.artefact)
        self.spending = None if options.shadow else budget
        self.notes: tuple[str, ...] = self._notes_of(self.running)
        if self.governor is not None and not options.shadow:
            self.notes += tuple(f"{name}: {note}" for note in self.governor.notes)
        if options.shadow and options.audit:
            self.notes += (f"{name}: --audit has no effect in shadow mode, which compares every exit with the base",)
        if options.shadow and self.governor is not None:
            self.notes += (f"{name}: in shadow mode the base answers every input, so escalations are not limited",)
        if options.shadow and budget is not None:
            self.notes += (f"{name}: --max-cost-per-hour has no effect in shadow mode, where no move saves anything",)

    @property
    def cascade(self) -> Cascade:
        """The cascade in use."""
        return self.running.cascade

    @property
    def engine(self) -> Engine:
        """The engine in use."""
        return self.running.engine

    @property
    def point(self) -> Point:
        """The operating point in force."""
        return self.running.point

    @property
    def takes(self) -> Takes:
        """Which inputs it accepts."""
        return self.running.takes

    @property
    def labels(self) -> Labels | None:
        """Answers by id, and what their labels show."""
        return self.running.labels

    @property
    def artefact(self) -> Artefact:
        """The cascade at the operating point in force."""
        return self.running.point.artefact

    # Lifecycle

    def load(self) -> Cascade:
        """Load the folder as it is now. Raises ModelError if the cascade cannot be served."""
        cascade = Cascade.load(self.folder, self.options.device, allow_python=self.options.allow_python)
        for stage, model in zip(cascade.artefact.stages, cascade.models, strict=True):
            if model.preprocessing.kind == "paths":
                raise ModelError(f"{stage.name} takes file paths, which requests do not have, so it cannot be served")
        return cascade

    def warm_up(self) -> None:
        """Run every stage at every batch size; then it is ready. Stops early if the server drains."""
        with self._loading:
            self._note(warm_up(self.cascade, self._still_wanted))
            with self._lock:
                if self.state == "WARMING":
                    self.state = "READY"

    def _still_wanted(self, stage: str, n: int) -> None:
        if self.state == "DRAINING":
            raise EngineClosed("the server was told to end")

    def reload(self) -> None:
        """Load the folder again and switch to it. Requests under way finish with the old cascade. Stops early if the
        server drains."""
        with self._loading:
            cascade = self.load()
            if self.spending is not None:
                check_budget(self.options, self.artefact, cascade.artefact)
            notes = warm_up(cascade, self._still_wanted)
            with self._lock:
                if self.state == "DRAINING":
                    return
                now = self._begin(cascade)
                self.meter.moved(now.point)  # before anything is counted at the new point
                before, self.running = self.running, now
                self._closing.append(before.engine)
            self.notes = ()
            self._note((*self._notes_of(now), *notes))
            before.engine.close()  # waits for its last batch
            with self._lock:
                self._closing.remove(before.engine)

    def _note(self, found: Sequence[str]) -> None:
        """Log notes that came up after the start."""
        self.notes += tuple(found)
        for note in found:
            self.log("note", f"{self.name}: {note}", "warning", model=self.name)

    def drain(self, timeout: float | None = None) -> None:
        """Take no more requests, and answer those already accepted. A warm-up or reload ends after the batch that it
        computes."""
        with self._lock:
            self.state = "DRAINING"
            engines = [self.engine, *self._closing]
        end = None if timeout is None else time.monotonic() + timeout
        for engine in engines:
            engine.close(timeout=None if end is None else max(0.0, end - time.monotonic()))
        if self._loading.acquire(timeout=-1 if end is None else max(0.0, end - time.monotonic())):
            self._loading.release()

    def _begin(self, cascade: Cascade) -> Running:
        loaded = cascade.artefact
        labels = Labels(len(loaded.stages)) if loaded.task.classes else None
        if labels is not None:
            labels.tell = partial(self._labelled, labels)
        takes = Takes.by((model.preprocessing for model in cascade.models), cascade.models[0].input_shape)
        return Running(cascade, self._engine(cascade), self._point(loaded, labels), loaded, labels, takes)

    def _engine(self, cascade: Cascade) -> Engine:
        options = self.options
        return cascade.engine(max_wait_ms=options.max_wait_ms, queue=options.queue, observer=self.meter.batch)

    def _point(self, artefact: Artefact, labels: Labels | None, before: Point | None = None) -> Point:
        self.number += 1
        if labels is not None:
            labels.begin(str(self.number))
        return begin_point(str(self.number), artefact, self.options, before)

    def _labelled(self, labels: Labels, stage: int, score: float, right: float, agreed: float | None) -> None:
        now = self.running
        if now.labels is labels:  # not of a cascade that was just replaced
            maps = now.point.maps
            maps[stage].update(score, right, agreed if stage + 1 < len(maps) else None)

    def revive(self, ended: Engine) -> None:
        """Start another engine if *ended*, which a fault in its threads has ended, is still in use."""
        with self._lock:
            now = self.running
            if now.engine is ended and self.state == "READY":
                self.log("error", f"the engine of {self.name} has failed and was replaced", "error", model=self.name)
                self.running = replace(now, engine=self._engine(now.cascade))

    # The operating point

    def move(
        self,
        *,
        max_drop: float | str | None = None,
        max_cost: float | str | None = None,
        min_metric: float | str | None = None,
        by: Caller | None = None,
    ) -> Move:
        """Move to another point of the frontier at once; inputs under way keep the point they started with. If it is
        the point in force, nothing changes.

        Arguments and errors are those of :meth:`Cascade.set_operating_point`; *by* is who asked, for the log.
        """
        with self._lock:
            now = self.running
            now.cascade.set_operating_point(max_drop=max_drop, max_cost=max_cost, min_metric=min_metric)
            if now.cascade.artefact.operating_point.same_as(now.point.artefact.operating_point):
                now.cascade.artefact = now.point.artefact
                return Move(now.point, False, self._notes_of_budget(now.point.artefact))
            self.running = replace(now, point=self._point(now.cascade.artefact, now.labels, now.point))
            point = self.running.point
            self.meter.moved(point)
        said = point.to_json()
        self.log(
            "move", f"the operating point of {self.name} is {point.id} now, and was {now.point.id}",
            model=self.name, operating_point=point.id, **{key: said[key] for key in ("drop", "cost", "exit_ratio")},
            client=None if by is None else by.client, request=None if by is None else by.request,
        )  # fmt: skip
        return Move(point, True, self._notes_of_budget(point.artefact))

    def _notes_of_budget(self, artefact: Artefact) -> tuple[str, ...]:
        """A note if the budget is about to move the operating point away from that of *artefact*."""
        if self.spending is None:
            return ()
        self._count_spent(self.spending)
        cost, advice = self.spending.would_move(artefact), self.spending.advice()
        if cost is None or advice is None:
            return ()
        left = max(advice.left, 0.0)
        found = (
            f"--max-cost-per-hour will move it at its next check, to a point that costs {plain_cost(cost)} an "
            f"input, as {left:.0%} of an hour's budget is left"
        )
        return (found,)

    def _count_spent(self, spending: Spending) -> None:
        spending.counted(self.meter.spent, sum(stage.answered for stage in self.meter.stages))

    def resume(self, point: Point) -> None:
        """Restore the *point* that was in force when another process served the same cascade."""
        with self._lock:
            now = self.running
            now.cascade.artefact = point.artefact
            self.running = replace(now, point=point)

    def alarmed(self, point: Point, alarm: Alarm) -> None:
        """Report a drift alarm raised at *point*. Called in the engine's threads."""
        self.meter.alarmed(alarm)
        self.history.alarmed(point.id, alarm)
        said = alarm.to_json()
        self.log("alarm", f"{self.name}: {alarm}", "warning", model=self.name, operating_point=point.id, **said)

    def hold_budget(self) -> None:
        """Every few seconds, move if the budget of cost per hour calls for a cheaper point or allows a better one."""
        if self.spending is None or not self.spending.is_due:
            return
        self._count_spent(self.spending)
        if (cost := self.spending.next_cost(self.artefact)) is not None:
            try:
                self.move(max_cost=cost, by=Caller("--max-cost-per-hour", "-"))
            except PilotfishError as error:
                text = f"{self.name}: cannot move to keep the budget of cost per hour: {error}"
                self.log("error", text, "error", model=self.name)

    def _notes_of(self, now: Running) -> tuple[str, ...]:
        """What the operator should know about a loaded cascade."""
        drift = now.point.drift
        of_drift = () if drift is None else drift.notes
        of_budget = [] if self.spending is None else budget_notes(self.spending.per_hour, now.loaded)
        return (*now.cascade.notes, *(f"drift: {note}" for note in of_drift), *of_budget)

    # Requests

    def answer(self, entries: Sequence[Entry], caller: Caller) -> Coroutine[Any, Any, Reply]:
        """Answer one request; see :func:`pilotfish.serve.asking.ask`."""
        return ask(self, entries, caller)
