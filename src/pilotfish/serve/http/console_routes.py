"""The console: its page at ``/`` and its figures at ``/console.json``."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pilotfish.serve.http.endpoint import route
from pilotfish.serve.http.exchange import server_of
from pilotfish.serve.refusal import Refusal
from pilotfish.serve.report.console_page import console_page
from pilotfish.serve.report.snapshot import Access, snapshot

if TYPE_CHECKING:
    from pilotfish.serve.server import Server

PRIVATE = {"cache-control": "no-store", "x-content-type-options": "nosniff"}


def console_routes() -> list[Route]:
    """The routes of the console."""
    return [route("/", page, include_in_schema=False), route("/console.json", figures)]


async def page(request: Request) -> Response:
    """The console page."""
    document, headers = console_page()
    return Response(document, headers=headers)


async def figures(request: Request) -> Response:
    """The figures of the console, for ``?model=NAME`` or the first cascade."""
    server = server_of(request)
    asked = request.query_params.get("model")
    if asked is not None:
        server.hosted(asked)  # not in a thread: this request may start the warm-up
    found = await asyncio.to_thread(snapshot, server, asked, _access(server, request))  # bounds take milliseconds
    document = json.dumps(found, allow_nan=False)  # in ASCII: an id may have characters that cannot be encoded
    return Response(document, headers=PRIVATE, media_type="application/json")


def _access(server: Server, request: Request) -> Access:
    if not server.access.tokens:
        return "open"
    try:
        server.access.check(request.scope, changes=False)
    except Refusal:
        return "locked"
    return "token"
