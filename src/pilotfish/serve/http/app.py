"""The routes of a server, and its errors: ``{"error": text}`` on every route."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Match, Router

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
from pilotfish.serve.report.metrics import BY_INPUT, Causes

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from pilotfish.serve.server import Server

ASKED = ("/predict", ":predict", "/infer")
"""Ends of the paths that ask a cascade for answers."""


def make_app(server: Server) -> ASGIApp:
    """The ASGI application of *server*."""
    bounded = BytesUnderWay(Routes(server), server.options.limits, server.access.client)
    return RequestIds(bounded, server.log, partial(server.causes.refused, "internal"))


class Routes:
    """ASGI application of all routes, available to handlers as ``request.app``. What they raise becomes a response.

    This is starlette's router without starlette's application, which adds three layers to every request and every
    message of its response.
    """

    def __init__(self, server: Server) -> None:
        self.server = server
        self.routes = [
            *predict_routes(),
            *report_routes(),
            *oip_routes(),
            *v1_routes(),
            *control_routes(),
            *console_routes(),
            *openapi_routes(),
        ]
        self._router = Router(self.routes, lifespan=server.lifespan)
        self._asked = {route.path: route.app for route in predict_routes()}  # most requests go here: no search

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["app"] = self
        try:
            if (found := self._asked.get(scope.get("path", ""))) and scope["method"] == "POST":
                scope["path_params"] = {}
                await found(scope, receive, send)
                return
            await self._router(scope, receive, send)
        except (Refusal, HTTPException, PilotfishError, ClientDisconnect) as error:
            if scope["type"] != "http":
                raise
            await _said(Request(scope), error)(scope, receive, send)


def _said(request: Request, error: Exception) -> Response:
    """The response to a request that is refused or fails."""
    causes = _causes(request)
    if isinstance(error, Refusal):
        if error.cause not in BY_INPUT:
            causes.refused(error.cause)
        return JSONResponse({"error": str(error)}, error.status, error.headers)
    if isinstance(error, HTTPException):  # refused by starlette: unknown paths and methods
        causes.refused("not_found" if error.status_code in (404, 405) else "bad_request")
        what = one_line(f"{request.method} {request.url.path[:200]}")
        if error.status_code == 405:
            allowed = ", ".join(_methods(request))
            text = f"{what} is not allowed; this path takes {allowed}"
            return JSONResponse({"error": text}, 405, {"Allow": allowed})
        text = f"there is nothing at {what}" if error.status_code == 404 else error.detail
        return JSONResponse({"error": text}, error.status_code, error.headers)
    if isinstance(error, ClientDisconnect):  # nobody reads this
        return Response(status_code=499)
    causes.refused("internal")  # a fault of a model or of the server
    log, id = server_of(request).log, request.state.request_id
    log.error(f"{request.method} {request.url.path} failed", error, request=id)
    return JSONResponse({"error": str(error)}, 500)


def _methods(request: Request) -> list[str]:
    """The methods of the requested path, which may have one route for each."""
    path = next(one.path for one in request.app.routes if one.matches(request.scope)[0] is not Match.NONE)
    routes = [one for one in request.app.routes if one.path == path]
    routes = [one for one in routes if one.include_in_schema] or routes
    return sorted({method for one in routes for method in one.methods})


def _causes(request: Request) -> Causes:
    """Where a refusal is counted: with the cascade that was asked for answers, if it is known."""
    server = server_of(request)
    if request.method != "POST" or not request.url.path.endswith(ASKED):
        return server.causes
    name = request.path_params.get("model") or request.query_params.get("model")
    if name is None and len(server.models) == 1:
        return next(iter(server.models.values())).meter.causes
    return server.models[name].meter.causes if name in server.models else server.causes
