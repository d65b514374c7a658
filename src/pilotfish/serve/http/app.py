"""The routes of a server, and how errors are said: ``{"error": text}`` whatever the route."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pilotfish.errors import PilotfishError
from pilotfish.serve.http.console_routes import console_routes
from pilotfish.serve.http.control_routes import control_routes
from pilotfish.serve.http.report_routes import report_routes
from pilotfish.serve.http.request_ids import RequestIds
from pilotfish.serve.refusal import Refusal
from pilotfish.serve.report.metrics import Causes
from pilotfish.serve.served import Caller, Entry

if TYPE_CHECKING:
    from pilotfish.serve.server import Server


def make_app(server: Server) -> Starlette:
    """An ASGI application; ``app.state.server`` is *server*."""
    app = Starlette(
        routes=[
            *_health_routes(),
            Route("/predict", predict, methods=["POST"]),
            *report_routes(),
            *control_routes(),
            *console_routes(),
        ],
        exception_handlers={
            Refusal: refused,
            HTTPException: not_found,
            PilotfishError: failed,
        },
        middleware=[Middleware(RequestIds, log=server.log)],
        lifespan=server.lifespan,
    )
    app.state.server = server
    return app


def server_of(request: Request) -> Server:
    """The server that a request came to."""
    found: Server = request.app.state.server
    return found


def caller_of(request: Request, deadline: float | None = None) -> Caller:
    """Who asks, and by which id."""
    peer = "" if request.client is None else request.client.host
    return Caller(peer, request.state.request_id, deadline)


async def refused(request: Request, error: Exception) -> Response:
    """A request that is refused, with its reason."""
    assert isinstance(error, Refusal)
    _causes(request).refused(error.cause)
    return JSONResponse({"error": str(error)}, error.status, error.headers)


async def not_found(request: Request, error: Exception) -> Response:
    """What starlette itself refuses: unknown paths and methods."""
    assert isinstance(error, HTTPException)
    _causes(request).refused("not_found" if error.status_code in (404, 405) else "bad_request")
    what = f"{request.method} {request.url.path[:200]}"
    text = {404: f"there is nothing at {what}", 405: f"{what} is not a method of this path"}
    return JSONResponse({"error": text.get(error.status_code, error.detail)}, error.status_code, error.headers)


async def failed(request: Request, error: Exception) -> Response:
    """A fault of a model, or of how it is served."""
    _causes(request).refused("internal")
    server_of(request).log.error(f"{request.method} {request.url.path} failed", error, request=request.state.request_id)
    return JSONResponse({"error": str(error)}, 500)


def _causes(request: Request) -> Causes:
    """Where a refusal is counted: with the cascade that was asked, if that is known."""
    server = server_of(request)
    name = request.path_params.get("model") or request.query_params.get("model")
    if name is None and len(server.models) == 1:
        return next(iter(server.models.values())).meter.causes
    return server.models[name].meter.causes if name in server.models else server.causes


def _health_routes() -> list[Route]:
    return [Route("/v2/health/live", live), Route("/v2/health/ready", ready)]


async def live(request: Request) -> Response:
    """It runs."""
    return JSONResponse({"live": True})


async def ready(request: Request) -> Response:
    """Every stage has been run, and it does not drain."""
    is_ready = server_of(request).ready
    return JSONResponse({"ready": is_ready}, 200 if is_ready else 503)


async def predict(request: Request) -> Response:
    """One image, as it is."""
    if not request.headers.get("content-type", "").startswith("image/"):
        raise Refusal(415, "POST /predict takes a body of type image/*", "bad_request")
    hosted = server_of(request).hosted(request.query_params.get("model"))
    body = await request.body()
    if not body:
        raise Refusal(400, "the body is empty; expected an image", "bad_request")
    reply = await hosted.answer([Entry(body)], caller_of(request))
    document: dict[str, Any] = {
        "answers": [served.to_json() for served in reply.answers],
        "model": reply.model,
        "operating_point": reply.point.id,
    }
    return JSONResponse(document)
