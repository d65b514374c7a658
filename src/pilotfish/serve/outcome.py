"""What became of one input: its answer with its flags, or why it has none."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

from pilotfish.errors import DeadlineError, EngineClosed, reason
from pilotfish.runtime.answers import answer_of
from pilotfish.runtime.single import OneAnswer
from pilotfish.serve.passage import Passage
from pilotfish.serve.refusal import Refusal
from pilotfish.serve.served import Cause, Entry, Served


def outcome(entry: Entry, future: Future[Any] | None, passage: Passage) -> Served:
    """The answer to *entry*, once its *future* is done; it has none where the input could not be read."""
    if future is None:
        return _unanswered(entry, entry.item, "bad_input", passage)
    if (error := future.exception()) is not None:
        return _unanswered(entry, error, _cause(error), passage)
    options, found, flags = passage.hosted.options, future.result(), passage.flags
    so_far: OneAnswer | None = passage.so_far
    if found.error is not None and so_far is not None:
        _tell(found.error, passage)
    if found.error is not None and so_far is not None and options.when_base_fails == "flag":
        found, flags = so_far, (*flags, "base_failed")
    if found.error is not None:  # where a stage has answered, it is not the input's fault
        return _unanswered(entry, found.error, "bad_input" if so_far is None else "model", passage)
    limit = options.unsure_below
    if limit is not None and not passage.point.reliability(found.stage, found.confidence) >= limit:
        flags = (*flags, "unsure")
    passage.count(found, flags)
    if options.shadow:
        flags = (*flags, "shadow")
    artefact = passage.point.artefact
    said = answer_of(entry.name, found.prediction, found.confidence, found.stage, None, artefact)
    return Served(entry.id, said, flags)


def _unanswered(entry: Entry, error: BaseException | str, cause: Cause, passage: Passage) -> Served:
    text = error if isinstance(error, str) else reason(error, 1000)
    if cause == "model" and not isinstance(error, str):
        _tell(text, passage)
    said = answer_of(entry.name, None, 0.0, -1, text, passage.point.artefact)
    again = float(error.headers.get("Retry-After", 1)) if isinstance(error, Refusal) else 1.0
    return Served(entry.id, said, cause=cause, again=again)


def _tell(text: str, passage: Passage) -> None:
    name = passage.hosted.name
    said = f"a stage of {name} has no answer to an input: {text}"
    passage.hosted.log.seldom(name, "error", said, "error", model=name, request=passage.caller.request)


def _cause(error: BaseException) -> Cause:
    if isinstance(error, DeadlineError):
        return "deadline"
    if isinstance(error, Refusal):
        return "governed"
    return "draining" if isinstance(error, EngineClosed) else "model"
