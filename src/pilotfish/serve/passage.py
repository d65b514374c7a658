"""One input on its way through a cascade that is served: what the rule decides is watched, and may be overruled."""

from __future__ import annotations

from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from pilotfish.runtime.single import OneAnswer
from pilotfish.serve.refusal import busy

if TYPE_CHECKING:
    from pilotfish.serve.hosted import Hosted
    from pilotfish.serve.point import Point
    from pilotfish.serve.served import Caller


class Passage:
    """Asked by the engine at every stage that could answer the input (see :data:`pilotfish.runtime.call.Passage`).

    so_far  what the last stage that ran before the base says: the answer where the base has none
    exited  where the rule let it exit, in shadow mode: what the cascade would have answered
    sure    whether the rule let it exit at the first stage, whatever became of it
    flags   what should be known of the answer
    turn    when it is its turn, of all clients' inputs
    """

    __slots__ = ("caller", "exited", "flags", "hosted", "last", "point", "so_far", "sure", "turn")

    def __init__(self, hosted: Hosted, point: Point, caller: Caller, turn: int) -> None:
        self.hosted, self.point, self.caller, self.turn = hosted, point, caller, turn
        self.last = len(point.artefact.stages) - 1
        self.so_far: OneAnswer | None = None
        self.exited: OneAnswer | None = None
        self.sure = False
        self.flags: tuple[str, ...] = ()

    def __call__(self, stage: int, answer: OneAnswer, value: float, exits: bool) -> bool | Future[Any] | Exception:
        if stage == self.last:
            return True
        hosted, known = self.hosted, value == value
        if stage == 0:
            self.sure = exits
            hosted.fair.began(self.turn)
            if (drift := self.point.drift) is not None and (alarm := drift.seen(exits, value)) is not None:
                hosted.alarmed(self.point, alarm)
        if known:  # else the answer says nothing
            self.so_far = answer
        if hosted.options.shadow:
            if exits and self.exited is None:
                self.exited = answer
            return False
        if exits:
            return True
        if (instead := self._governed(known)) is not None:
            return instead
        hosted.meter.escalated(stage)
        return False

    def _governed(self, known: bool) -> bool | Exception | None:
        """What becomes of an input that the governor has no token for; None where it may go on."""
        governor, client = self.hosted.governor, self.caller.client
        if governor is None or governor.take(client):
            return None
        if known and self.hosted.options.when_empty == "flag":
            self.flags += ("governed",)
            return True
        text = f"{self.hosted.name} takes no more inputs to its base from you now; try again later"
        return busy(text, "governed", governor.wait(client))
