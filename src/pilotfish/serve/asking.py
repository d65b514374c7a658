"""The way of one request through a cascade that is served, from its inputs to their answers."""

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
"""One of each input; None for what could not be read."""


async def ask(hosted: Hosted, entries: Sequence[Entry], caller: Caller) -> Reply:
    """Answers to the inputs of one request, all at the operating point of now.

    What is wrong with one input is in its own answer. A request whose task is cancelled is given up: its inputs are in
    no further batch. Refusal where the cascade is not ready, or as many inputs are under way as may be.
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
        if next(left) == n:  # of count() one thread gets each number
            loop.call_soon_threadsafe(_set, done)

    if (place := hosted.fair.enter(client, n)) is None:
        text = "has as many inputs of yours under way as it takes of one client"
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
    """All inputs of a request to one engine, and so by one cascade and at one point; *futures* gets theirs. Refusal
    where the queue is full."""
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
            text = f"has {hosted.options.queue} inputs under way, as many as its queue holds"
            raise _busy(hosted, entries, text, "full", _wait(hosted)) from None
        except EngineClosed:  # its folder was loaded again this very moment: all of the request begins anew
            for future in futures:
                if future is not None:
                    future.cancel()
            futures.clear()
            if hosted.state != "READY":
                state = hosted.state.lower()
                raise _busy(hosted, entries, f"is {state}", state, 1.0) from None
            hosted.revive(engine)


def _busy(hosted: Hosted, entries: Sequence[Entry], text: str, cause: str, seconds: float) -> Refusal:
    """Why a request is refused; its inputs are counted for the console."""
    hosted.history.refused(len(entries))
    return busy(f"{hosted.name} {text}", cause, seconds)


def _wait(hosted: Hosted) -> float:
    """Seconds until what is queued now is answered, about."""
    engine = hosted.engine
    lanes = max(stage.lanes for stage in engine.stages)
    return sum(depth.waiting * depth.pace for depth in engine.depths()) / lanes


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
