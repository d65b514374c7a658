"""The outcome of one input: its answer with flags, or the reason it has none."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

import numpy as np

from pilotfish.errors import DeadlineError, EngineClosed, reason
from pilotfish.runtime.answers import answer_of
from pilotfish.runtime.single import OneAnswer
from pilotfish.serve.passage import Passage
from pilotfish.serve.refusal import Refusal
from pilotfish.serve.served import Cause, Entry, Served


def outcome(entry: Entry, future: Future[Any] | None, passage: Passage) -> Served:
    """The answer to *entry*, once its *future* is done. The future is None if the input could not be read."""
    if future is None:
        return _unanswered(entry, entry.item, "bad_input", passage)
    try:
        found = future.result()
    except Exception as error:
        return _unanswered(entry, error, _cause(error), passage)
    options, flags = passage.hosted.options, passage.flags
    so_far: OneAnswer | None = passage.so_far
    cause: Cause = "bad_input"
    if found.error is not None and (so_far is not None or (found.by_stage and _is_sound(entry.item, passage))):
        cause = "model"
        _tell(found.error, passage)
    if found.error is not None and so_far is not None and options.when_base_fails == "flag":
        found, flags = so_far, (*flags, "base_failed")
    if found.error is not None:
        return _unanswered(entry, found.error, cause, passage)
    if isinstance(entry.item, np.ndarray):
        passage.hosted.shape = entry.item.shape
    limit = options.unsure_below
    if limit is not None and not passage.point.reliability(found.stage, found.confidence) >= limit:
        flags = (*flags, "unsure")
    passage.count(found, flags)
    if options.shadow:
        flags = (*flags, "shadow")
    artefact = passage.point.artefact
    said = answer_of(entry.name, found.prediction, found.confidence, found.stage, None, artefact)
    return Served(entry.id, said, flags)


def _is_sound(item: Any, passage: Passage) -> bool:
    """Whether a stage that fails on *item* is at fault. It is not for an array with NaN or infinities, or of another
    shape than the last answered one, if the cascade takes arrays and does not know their shape."""
    hosted = passage.hosted
    if isinstance(item, np.ndarray) and not np.isfinite(item).all():
        return False
    arrays = {model.preprocessing.kind for model in hosted.cascade.models} <= {"tensor", "arrays"}
    return not (arrays and isinstance(item, np.ndarray)) or hosted.shape in (None, item.shape)


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
    return "cut_off" if isinstance(error, EngineClosed) else "model"
