"""A request and its answers, whatever protocol they came by."""

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
    """Who asks. client: the name of a token, else a peer's address; request: the request's id; deadline: seconds that
    an answer may take, None for as many as the server allows; whole: whether one input without an answer fails the
    request."""

    client: str
    request: str
    deadline: float | None = None
    whole: bool = False


@dataclass(frozen=True)
class Entry:
    """One input of a request.

    item  bytes of an image file, an array of one sample, a text; or the exception that reading the request raised of
          this input, which then fails alone
    id    as the client calls it; None where it gave none
    name  what the answer calls the input
    """

    item: Any
    id: str | None = None
    name: str = "0"


@dataclass(frozen=True)
class Served:
    """The answer to one input.

    flags  what should be known of it: ``governed``, ``base_failed``, ``unsure``, ``shadow``
    cause  why there is none, else None: ``bad_input``, ``deadline``, ``governed``, ``cut_off``, or ``model`` where a
           stage failed
    again  after how many seconds it may be asked again, where there is none for now
    """

    id: str | None
    answer: Answer
    flags: tuple[str, ...] = ()
    cause: Cause | None = None
    again: float = 1.0

    def to_json(self) -> dict[str, Any]:
        """As ``pilotfish predict --json`` has it, with ``id`` and ``flags``."""
        return {**self.answer.to_json(), "id": self.id, "flags": list(self.flags)}


@dataclass(frozen=True)
class Reply:
    """The answers to a request, in the order of its inputs. point: the operating point that decided all of them."""

    answers: list[Served]
    model: str
    version: str
    point: Point
