"""The routes of a server, and how errors are said: ``{"error": text}`` whatever the route."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pilotfish.errors import PilotfishError
from pilotfish.serve.http.control_routes import control_routes
from pilotfish.serve.refusal import Refusal
from pilotfish.serve.served import Caller, Entry

if TYPE_CHECKING:
    from pilotfish.serve.server import Server


def make_app(server: Server) -> Starlette:
    """An ASGI application; ``app.state.server`` is *server*."""
    app = Starlette(
        routes=[*_health_routes(), Route("/predict", predict, methods=["POST"]), *control_routes()],
        exception_handlers={
            Refusal: refused,
            HTTPException: not_found,
            PilotfishError: failed,
            Exception: failed,
        },
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
    return Caller(peer, request.headers.get("x-request-id") or uuid.uuid4().hex, deadline)


async def refused(request: Request, error: Exception) -> Response:
    """A request that is refused, with its reason."""
    assert isinstance(error, Refusal)
    return JSONResponse({"error": str(error)}, error.status, error.headers)


async def not_found(request: Request, error: Exception) -> Response:
    """What starlette itself refuses: unknown paths and methods."""
    assert isinstance(error, HTTPException)
    what = f"{request.method} {request.url.path[:200]}"
    text = {404: f"there is nothing at {what}", 405: f"{what} is not a method of this path"}
    return JSONResponse({"error": text.get(error.status_code, error.detail)}, error.status_code, error.headers)


async def failed(request: Request, error: Exception) -> Response:
    """A fault of ours or of a model."""
    return JSONResponse({"error": str(error) if isinstance(error, PilotfishError) else "internal error"}, 500)


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
