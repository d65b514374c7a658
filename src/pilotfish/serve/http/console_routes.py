"""The console: its page at ``/`` and its figures at ``/console.json``."""

from __future__ import annotations

import json

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pilotfish.serve.report.console_page import console_page
from pilotfish.serve.report.snapshot import snapshot

PRIVATE = {"cache-control": "no-store", "x-content-type-options": "nosniff"}


def console_routes() -> list[Route]:
    """GET of both."""
    return [Route("/", page), Route("/console.json", figures)]


async def page(request: Request) -> Response:
    """The page."""
    document, headers = console_page()
    return Response(document, headers=headers)


async def figures(request: Request) -> Response:
    """What it shows, of ``?model=NAME`` or the first."""
    found = snapshot(request.app.state.server, request.query_params.get("model"))
    document = json.dumps(found, allow_nan=False)  # in ASCII: an id may hold what no encoding has
    return Response(document, headers=PRIVATE, media_type="application/json")
