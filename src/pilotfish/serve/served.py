"""Requests and answers, independent of the protocol."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pilotfish.runtime import Answer

if TYPE_CHECKING:
    from pilotfish.serve.point import Point


Cause = Literal["bad_input", "deadline", "governed", "cut_off", "model"]
GONE = "the client left"
"""The message with which a request is cancelled whose client left."""


@dataclass(frozen=True)
class Caller:
    """Who sent a request.

    client    the name of a token, or else the peer's address
    request   the request's id
    deadline  seconds for the answer; None: the server's limit
    whole     whether one failed input fails the request
    """

    client: str
    request: str
    deadline: float | None = None
    whole: bool = False


@dataclass(frozen=True)
class Entry:
    """One input of a request.

    item  bytes of an image file, an array of one sample, or a text; or the exception that reading this input raised, in
          which case only this input fails
    id    the client's id; None if it gave none
    name  the input's name in the answer
    """

    item: Any
    id: str | None = None
    name: str = "0"


@dataclass(frozen=True)
class Served:
    """The answer to one input.

    flags  ``governed``, ``base_failed``, ``unsure``, ``shadow``
    cause  why there is no answer: ``bad_input``, ``deadline``, ``governed``, ``cut_off``, or ``model`` if a stage
           failed; None if there is one
    again  seconds to wait before a retry, if there is no answer for now
    """

    id: str | None
    answer: Answer
    flags: tuple[str, ...] = ()
    cause: Cause | None = None
    again: float = 1.0

    def to_json(self) -> dict[str, Any]:
        """The format of ``pilotfish predict --json``, plus ``id`` and ``flags``."""
        return {**self.answer.to_json(), "id": self.id, "flags": list(self.flags)}


@dataclass(frozen=True)
class Reply:
    """The answers to a request, in the order of its inputs, and the operating ``point`` that decided all of them."""

    answers: list[Served]
    model: str
    version: str
    point: Point
