"""What all routes share: the cascade and the client of a request, and how a response is sent."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response

from pilotfish.serve.http.body import header_of, read_body, unless_gone
from pilotfish.serve.http.json_body import json_of, read_aside, shown, to_json
from pilotfish.serve.refusal import Refusal, busy
from pilotfish.serve.served import Caller, Entry, Reply, Served

if TYPE_CHECKING:
    from pilotfish.serve.hosted import Hosted
    from pilotfish.serve.server import Server

T = TypeVar("T")
WORTH = 1400
"""Bytes from which on a body is compressed; a smaller one fits a packet."""


class Whole(Response):
    """A complete response: starlette's, built in one step."""

    def __init__(self, body: bytes, status: int, headers: Mapping[str, str]) -> None:
        self.status_code, self.body, self.background = status, body, None
        self.raw_headers = [(name.lower().encode("latin-1"), text.encode("latin-1")) for name, text in headers.items()]
        self.raw_headers.append((b"content-length", b"%d" % len(body)))


def server_of(request: Request) -> Server:
    """The server that handles a request."""
    found: Server = request.scope["app"].server
    return found


def query_of(request: Request, name: str) -> str | None:
    """The query parameter *name*."""
    return request.query_params.get(name) if request.scope["query_string"] else None


def hosted_of(request: Request) -> Hosted:
    """The cascade named by the path or ``?model=``. Refusal, 404, for an unknown name or version."""
    params = request.path_params
    name = params.get("model") or query_of(request, "model")
    hosted = server_of(request).hosted(name)
    request.scope["state"]["model"] = hosted.name  # for the access log, which omits the query string
    version = params.get("version", hosted.version)
    if version != hosted.version:
        found = shown(version)
        raise Refusal(404, f"{hosted.name} has only version {hosted.version}; found {found}", "not_found")
    return hosted


async def ready(request: Request) -> Response:
    """Whether a cascade is ready and the server is not draining."""
    hosted = hosted_of(request)
    is_ready = hosted.state == "READY" and not server_of(request).draining
    return document(request, {"name": hosted.name, "ready": is_ready}, 200 if is_ready else 503)


def most_of(request: Request) -> int:
    """Inputs that a request may hold; more than the queue holds could never be answered."""
    options = server_of(request).options
    return min(options.limits.items, options.queue)


def classes_of(hosted: Hosted) -> bool:
    """Whether a cascade answers with classes."""
    return hosted.artefact.task.classes


def caller_of(request: Request, deadline: float | None = None, whole: bool = False) -> Caller:
    """The client and the id of a request, and how it is to be answered."""
    state = request.scope["state"]
    return Caller(state["client"], state["request_id"], deadline, whole)


async def body_of(request: Request) -> bytes:
    """The body of a request, decompressed."""
    return await read_body(request, server_of(request).options.limits)


async def json_body(request: Request, read: Callable[[Any], T]) -> T:
    """*read* applied to the JSON of a request; in a thread if it is large."""
    body = await body_of(request)
    return await read_aside(len(body), lambda: read(json_of(body)))


async def replied(request: Request, hosted: Hosted, entries: Sequence[Entry], caller: Caller | None = None) -> Reply:
    """The answers to a request, which is dropped when its client leaves. caller: None for the default,
    :func:`caller_of`."""
    try:
        return await unless_gone(request, hosted.answer(entries, caller or caller_of(request)))
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or not server_of(request).draining:
            raise
        task.uncancel()  # the server ends and no longer waits for answers
        raise busy(f"the server is shutting down; {hosted.name} did not answer in time", "cut_off", 1.0) from None


def told(reply: Reply) -> dict[str, str]:
    """Headers of a response: the operating point, and for each input the stage that answered (``-`` for none), its
    confidence and the flags."""
    stages, confidences, flags, flagged = [], [], [], False
    for served in reply.answers:
        answer = served.answer
        stages.append("-" if answer.stage is None else str(answer.stage))
        confidences.append("-" if answer.confidence is None else f"{answer.confidence:.6g}")
        flags.append("+".join(served.flags) or "-")
        flagged = flagged or bool(served.flags)
    headers = {
        "Pilotfish-Operating-Point": reply.point.id,
        "Pilotfish-Stages": ",".join(stages),
        "Pilotfish-Confidences": ",".join(confidences),
    }
    if flagged:
        headers["Pilotfish-Flags"] = ",".join(flags)
    return headers


def unanswered(request: Request, reply: Reply, served: Served, before: str = "", **content: Any) -> Response:
    """The error response for *served*, an input without an answer. It was counted with its input. before: put in
    front of the error."""
    text = f"{before}{served.answer.error}"
    status = {"bad_input": 400, "model": 500}.get(str(served.cause), 503)
    headers = busy(text, str(served.cause), served.again).headers if status == 503 else {}
    return document(request, {"error": text, **content}, status, {**headers, **told(reply)})


def answered(request: Request, reply: Reply, **content: Any) -> Response:
    """*content*; if no input has an answer, with the error and status of the first."""
    if None in [served.cause for served in reply.answers]:
        return document(request, content, 200, told(reply))
    before = "" if len(reply.answers) == 1 else "no input has an answer; the first error: "
    return unanswered(request, reply, reply.answers[0], before, **content)


def respond(request: Request, body: bytes, headers: Mapping[str, str], status: int = 200) -> Response:
    """A response with *body*, compressed if the client accepts that and it is worthwhile."""
    accepts = header_of(request, b"accept-encoding")
    if accepts and (coding := _coding(accepts, len(body))) is not None:
        body = gzip.compress(body, 1, mtime=0) if coding == "gzip" else zlib.compress(body, 1)
        headers = {**headers, "Content-Encoding": coding}
    return Whole(body, status, {**headers, "Vary": "Accept-Encoding"})


def document(request: Request, content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON response."""
    return respond(request, to_json(content), {**(headers or {}), "Content-Type": "application/json"}, status)


def _coding(header: str, size: int) -> str | None:
    """The coding of a response of *size* bytes. A client that names a single coding, as Triton's does, gets it; most
    libraries name all they know, for which only large bodies are compressed."""
    named: list[str] = []
    for one in header[:200].lower().split(","):
        coding, _, weight = one.partition(";")
        if weight.replace(" ", "").rstrip("0.") != "q=":
            named.append(coding.strip())
    known = [coding for coding in named if coding in ("gzip", "deflate")]
    return known[0] if known and (size >= WORTH or len(named) == 1) else None
