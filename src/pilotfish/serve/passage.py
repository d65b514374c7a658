"""One input on its way through a served cascade, where the rule's decisions are monitored and may be overruled."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import CancelledError, Future
from functools import partial
from typing import TYPE_CHECKING, Any

from pilotfish.errors import ModelError
from pilotfish.runtime.single import OneAnswer
from pilotfish.serve.refusal import busy

if TYPE_CHECKING:
    from pilotfish.serve.hosted import Hosted
    from pilotfish.serve.point import Point
    from pilotfish.serve.served import Caller
    from pilotfish.serve.watch.labels import Labels

LONGEST = 256  # characters of an id that is kept for labels


def is_text(key: str) -> bool:
    """Whether it can be encoded; half of a surrogate pair cannot."""
    try:
        return bool(key.encode())
    except UnicodeEncodeError:
        return False


class Passage:
    """Called by the engine at every stage that could answer the input (see :data:`pilotfish.runtime.call.Passage`).

    so_far   the answer of the last stage before the base, used if the base has none
    exited   in shadow mode, what the cascade would have answered
    sure     whether the rule let it exit at the first stage, even if that was overruled
    audit    whether it is drawn for an audit if it exits
    goes_on  whether it goes to the base for an audit
    base     the base's prediction in an audit
    flags    flags of the answer
    turn     its place in the order of all clients' inputs
    key      the input's id; None if it has none
    labels   where answers wait for their labels; None: nowhere
    """

    __slots__ = (
        "audit", "base", "caller", "exited", "flags", "goes_on", "hosted", "key", "labels", "last", "point", "so_far",
        "sure", "turn",
    )  # fmt: skip

    def __init__(
        self,
        hosted: Hosted,
        point: Point,
        caller: Caller,
        turn: int,
        key: str | None = None,
        labels: Labels | None = None,
    ) -> None:
        self.hosted, self.point, self.caller, self.turn, self.key = hosted, point, caller, turn, key
        self.labels = labels
        self.audit = point.audit is not None and point.audit.drawn()
        self.goes_on = False
        self.base: Any = None
        self.last = len(point.artefact.stages) - 1
        self.so_far: OneAnswer | None = None
        self.exited: OneAnswer | None = None
        self.sure = False
        self.flags: tuple[str, ...] = ()

    def __call__(self, stage: int, answer: OneAnswer, value: float, exits: bool) -> bool | Future[Any] | Exception:
        if stage == self.last or self.goes_on:
            if not self.goes_on:
                self._base_answered(answer)
            return stage == self.last
        hosted, known = self.hosted, value == value
        if stage == 0:
            self.sure = exits
            hosted.fair.began(self.turn)
            if (drift := self.point.drift) is not None and (alarm := drift.seen(exits, value)) is not None:
                hosted.alarmed(self.point, alarm)
        if known:  # a NaN score says nothing
            self.so_far = answer
        if hosted.options.shadow:
            if exits and self.exited is None:
                self.exited = answer
            return False
        if exits:
            return self._audited(answer) if self.audit else True
        if (instead := self._governed(known)) is not None:
            return instead
        hosted.meter.escalated(stage)
        return False

    def _governed(self, known: bool) -> bool | Exception | None:
        """The outcome of an input if the governor has no token for it; None if it may go on."""
        governor, client = self.hosted.governor, self.caller.client
        if governor is None or governor.take(client):
            return None
        if known and self.hosted.options.when_empty == "flag":
            self.flags += ("governed",)
            return True
        of_client = " of yours" if governor.of_clients else ""
        text = f"the base of {self.hosted.name} takes no more inputs{of_client} now; try again later"
        return busy(text, "governed", governor.wait(client))

    def count(self, found: OneAnswer, flags: Sequence[str]) -> None:
        """Count the given answer, and keep it for its label."""
        by_base, point, labels, key = found.stage == self.last, self.point, self.labels, self.key
        if point.audit is not None:
            point.audit.answered(by_base, forced=not by_base and bool({"governed", "base_failed"} & set(flags)))
        if key is None or labels is None or len(key) > LONGEST or not (key.isascii() or is_text(key)):
            return
        said = self.exited or found
        base = found.prediction if by_base else self.base
        labels.answered(key, point.id, said.stage, said.prediction, said.confidence, base)
        if base is None and self.base is not None:  # the audit came back meanwhile
            labels.base_said(key, point.id, self.base)

    def _base_answered(self, base: OneAnswer) -> None:
        """Compare the cascade's answer with the base's if both are known. Answers that are not classes, such as masks,
        are compared only if the cascade would have given them, as comparing takes a lane's time."""
        saver, shadow, x = self.exited or self.so_far, self.point.shadow, 0.0
        if saver is not None and (self.exited is not None or self.point.artefact.task.classes):
            x = self._differ(saver, base)
            self.point.maps[saver.stage].update(saver.confidence, 1 - x)
        if shadow is not None:
            shadow.add(None if self.exited is None else self.exited.stage, x)

    def _differ(self, saver: OneAnswer, base: OneAnswer) -> float:
        """How much two answers differ, in [0, 1]; 1 if they cannot be compared."""
        try:
            return self.point.artefact.task.disagreement(saver.prediction, base.prediction)
        except Exception:  # masks of two sizes, say; the input's answer must not fail because of it
            return 1.0

    def _audited(self, answer: OneAnswer) -> bool | Future[Any]:
        audit = self.point.audit
        if audit is None or not audit.began():
            return True
        self.goes_on = True
        future: Future[Any] = Future()
        future.add_done_callback(partial(self._came_back, answer))
        return future

    def _came_back(self, saver: OneAnswer, future: Future[Any]) -> None:
        """An audit of an exit ended, with or without the base's answer. Called in an engine's thread."""
        audit = self.point.audit
        assert audit is not None
        try:
            base = future.result()
            if base.error is not None:
                raise ModelError(base.error)
        except (Exception, CancelledError):
            audit.dropped()
            self.hosted.history.audited(self.point.id, audit)
            return
        x = self._differ(saver, base)
        audit.add(x)
        self.hosted.meter.audited(saver.stage)
        self.hosted.history.audited(self.point.id, audit)
        self.point.maps[saver.stage].update(saver.confidence, 1 - x)
        self.base = base.prediction
        if self.key is not None and self.labels is not None:
            self.labels.base_said(self.key, self.point.id, base.prediction)
