"""How a served cascade handles one request, from its inputs to their answers."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from pilotfish.errors import EngineClosed, QueueFull
from pilotfish.serve.outcome import outcome
from pilotfish.serve.passage import Passage
from pilotfish.serve.refusal import Refusal, busy
from pilotfish.serve.served import GONE, Caller, Entry, Reply

if TYPE_CHECKING:
    from pilotfish.serve.hosted import Hosted, Running
    from pilotfish.serve.watch.fair import Turns

Futures = list[Future[Any] | None]
"""One per input; None for an input that could not be read."""


async def ask(hosted: Hosted, entries: Sequence[Entry], caller: Caller) -> Reply:
    """Answer all inputs of one request at the current operating point.

    An input that fails has the error in its own answer. If the request's task is cancelled, its inputs are dropped
    from all further batches. Raises Refusal if the cascade is not ready or the queue is full.
    """
    if hosted.state != "READY":
        text = f"is {hosted.state.lower()} and takes no requests now"
        raise _busy(hosted, entries, text, hosted.state.lower(), 1.0)
    began, loop = time.perf_counter(), asyncio.get_running_loop()
    meter, client = hosted.meter, caller.client
    done = loop.create_future()
    left = itertools.count(1)
    n = len([entry for entry in entries if not isinstance(entry.item, Exception)])

    def one(_: Future[Any]) -> None:
        if next(left) == n:  # count() gives each number to one thread only
            loop.call_soon_threadsafe(_set, done)

    if (place := hosted.fair.enter(client, n)) is None:
        text = "has as many of your inputs under way as it accepts from one client"
        raise _busy(hosted, entries, text, "full", _wait(hosted))
    futures: Futures = []
    try:
        running, passages = _submit(hosted, entries, caller, place, futures)
        for future in futures:
            if future is not None:
                future.add_done_callback(one)
        meter.received(len(entries))
        if n:
            await done
    except BaseException as error:
        for future in futures:
            if future is not None:
                future.cancel()
        if isinstance(error, asyncio.CancelledError):
            meter.refused("gone" if GONE in error.args else "cut_off", len(entries))
        raise
    finally:
        hosted.fair.left(client, n)
    served = [
        outcome(entry, future, passage) for entry, future, passage in zip(entries, futures, passages, strict=True)
    ]
    seconds = time.perf_counter() - began
    failed = 0
    for each, passage in zip(served, passages, strict=True):
        meter.answered(each, seconds)
        hosted.history.answered(each, passage.sure, caller.request)
        failed += each.answer.error is not None
    meter.replied(seconds, failed=failed > 0 if caller.whole else failed == len(served))
    hosted.hold_budget()
    return Reply(served, hosted.name, hosted.version, running.point)


def _submit(
    hosted: Hosted, entries: Sequence[Entry], caller: Caller, place: Turns, futures: Futures
) -> tuple[Running, list[Passage]]:
    """Submit all inputs of a request to one engine, so that one cascade answers them at one point, and append their
    futures to *futures*. Raises Refusal if the queue is full."""
    deadline, limit = hosted.options.timeout, caller.deadline
    if limit is not None and (deadline is None or limit < deadline):
        deadline = limit
    while True:
        running, passages, turn = hosted.running, [], iter(place.turns)
        engine, point = running.engine, running.point
        in_force = point.artefact.in_force
        try:
            for entry in entries:
                unread = isinstance(entry.item, Exception)
                passage = Passage(hosted, point, caller, 0 if unread else next(turn), entry.id, running.labels)
                passages.append(passage)
                futures.append(
                    None
                    if unread
                    else engine.submit(entry.item, deadline, in_force, passage, passage.turn, place.light)
                )
            return running, passages
        except QueueFull:
            text = f"has {hosted.options.queue} inputs under way, and its queue is full"
            raise _busy(hosted, entries, text, "full", _wait(hosted)) from None
        except EngineClosed:  # the folder was just reloaded: start the request over
            for future in futures:
                if future is not None:
                    future.cancel()
            futures.clear()
            if hosted.state != "READY":
                state = hosted.state.lower()
                raise _busy(hosted, entries, f"is {state}", state, 1.0) from None
            hosted.revive(engine)


def _busy(hosted: Hosted, entries: Sequence[Entry], text: str, cause: str, seconds: float) -> Refusal:
    """The refusal of a request; its inputs are counted for the console."""
    hosted.history.refused(len(entries))
    return busy(f"{hosted.name} {text}", cause, seconds)


def _wait(hosted: Hosted) -> float:
    """Roughly how many seconds it takes to answer what is queued now."""
    engine = hosted.engine
    lanes = max(stage.lanes for stage in engine.stages)
    return sum(depth.waiting * depth.pace for depth in engine.depths()) / lanes


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
