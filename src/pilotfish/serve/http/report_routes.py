"""Routes by which machines look at a server: metrics and statistics."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pilotfish.serve.refusal import Refusal
from pilotfish.serve.report.triton_stats import model_statistics

if TYPE_CHECKING:
    from pilotfish.serve.server import Server


def report_routes() -> list[Route]:
    """/metrics, and statistics of one cascade or all."""
    one = "/v2/models/{model}"
    return [
        Route("/metrics", metrics),
        Route("/v2/models/stats", statistics),
        Route(f"{one}/stats", statistics),
        Route(f"{one}/versions/{{version}}/stats", statistics),
    ]


async def metrics(request: Request) -> Response:
    """For Prometheus; OpenMetrics where the header Accept asks for it."""
    server: Server = request.app.state.server
    accept = ",".join(request.headers.getlist("accept"))
    body, content_type = await asyncio.to_thread(server.exposition.render, accept)
    return Response(body, headers={"content-type": content_type})


async def statistics(request: Request) -> Response:
    """As Triton's statistics extension has them."""
    server: Server = request.app.state.server
    name, version = request.path_params.get("model"), request.path_params.get("version")
    models = list(server.models.values()) if name is None else [server.hosted(name)]
    if version is not None and any(hosted.version != version for hosted in models):
        raise Refusal(404, f"{name} has no version {version[:60]!r}; it has version {models[0].version}", "not_found")
    found = [model_statistics(hosted.name, hosted.version, hosted.meter) for hosted in models]
    return JSONResponse({"model_stats": found})
