"""One input on its way through a cascade that is served: what the rule decides is watched, and may be overruled."""

from __future__ import annotations

from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from pilotfish.runtime.single import OneAnswer

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
    """

    __slots__ = ("caller", "exited", "flags", "hosted", "last", "point", "so_far", "sure")

    def __init__(self, hosted: Hosted, point: Point, caller: Caller) -> None:
        self.hosted, self.point, self.caller = hosted, point, caller
        self.last = len(point.artefact.stages) - 1
        self.so_far: OneAnswer | None = None
        self.exited: OneAnswer | None = None
        self.sure = False
        self.flags: tuple[str, ...] = ()

    def __call__(self, stage: int, answer: OneAnswer, value: float, exits: bool) -> bool | Future[Any] | Exception:
        if stage == self.last:
            return True
        self.so_far = answer
        self.sure = self.sure or (exits and stage == 0)
        if self.hosted.options.shadow:
            if exits and self.exited is None:
                self.exited = answer
            return False
        if not exits:
            self.hosted.meter.escalated(stage)
        return exits
