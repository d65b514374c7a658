"""The routes of a server, and how errors are said: ``{"error": text}`` whatever the route."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from pilotfish.errors import PilotfishError, one_line
from pilotfish.serve.http.body import BytesUnderWay
from pilotfish.serve.http.console_routes import console_routes
from pilotfish.serve.http.control_routes import control_routes
from pilotfish.serve.http.exchange import server_of
from pilotfish.serve.http.kserve_v1 import v1_routes
from pilotfish.serve.http.oip import oip_routes
from pilotfish.serve.http.openapi import openapi_routes
from pilotfish.serve.http.predict_bodies import predict_routes
from pilotfish.serve.http.report_routes import report_routes
from pilotfish.serve.http.request_ids import RequestIds
from pilotfish.serve.refusal import Refusal
from pilotfish.serve.report.metrics import Causes

if TYPE_CHECKING:
    from pilotfish.serve.server import Server


ASKED = ("/predict", ":predict", "/infer")
"""How the paths end by which cascades are asked for answers."""


def make_app(server: Server) -> Starlette:
    """An ASGI application; ``app.state.server`` is *server*."""
    app = Starlette(
        routes=[
            *predict_routes(),
            *report_routes(),
            *oip_routes(),
            *v1_routes(),
            *control_routes(),
            *console_routes(),
            *openapi_routes(),
        ],
        exception_handlers={
            Refusal: refused,
            HTTPException: not_found,
            PilotfishError: failed,
            ClientDisconnect: gone,
        },
        middleware=[
            Middleware(RequestIds, log=server.log, failed=partial(server.causes.refused, "internal")),
            Middleware(BytesUnderWay, limits=server.options.limits, client=server.access.client),
        ],
        lifespan=server.lifespan,
    )
    app.state.server = server
    return app


async def refused(request: Request, error: Exception) -> Response:
    """A request that is refused, with its reason."""
    assert isinstance(error, Refusal)
    _causes(request).refused(error.cause)
    return JSONResponse({"error": str(error)}, error.status, error.headers)


async def not_found(request: Request, error: Exception) -> Response:
    """What starlette itself refuses: unknown paths and methods."""
    assert isinstance(error, HTTPException)
    _causes(request).refused("not_found" if error.status_code in (404, 405) else "bad_request")
    what = one_line(f"{request.method} {request.url.path[:200]}")
    text = {404: f"there is nothing at {what}", 405: f"{what} is not a method of this path"}
    return JSONResponse({"error": text.get(error.status_code, error.detail)}, error.status_code, error.headers)


async def failed(request: Request, error: Exception) -> Response:
    """A fault of a model, or of how it is served."""
    _causes(request).refused("internal")
    server_of(request).log.error(f"{request.method} {request.url.path} failed", error, request=request.state.request_id)
    return JSONResponse({"error": str(error)}, 500)


async def gone(request: Request, error: Exception) -> Response:
    """The client has left. Nobody reads this."""
    return Response(status_code=499)


def _causes(request: Request) -> Causes:
    """Where a refusal is counted: with the cascade that was asked for answers, if that is known."""
    server = server_of(request)
    if request.method != "POST" or not request.url.path.endswith(ASKED):
        return server.causes
    name = request.path_params.get("model") or request.query_params.get("model")
    if name is None and len(server.models) == 1:
        return next(iter(server.models.values())).meter.causes
    return server.models[name].meter.causes if name in server.models else server.causes
