"""Routes for monitoring: metrics and statistics."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pilotfish.serve.http.endpoint import route
from pilotfish.serve.http.exchange import hosted_of, server_of
from pilotfish.serve.report.triton_stats import model_statistics


def report_routes() -> list[Route]:
    """The routes of metrics and statistics."""
    one = "/v2/models/{model}"
    return [
        route("/metrics", metrics),
        route("/v2/models/stats", statistics),
        route(f"{one}/stats", statistics),
        route(f"{one}/versions/{{version}}/stats", statistics),
    ]


async def metrics(request: Request) -> Response:
    """Metrics for Prometheus, or in OpenMetrics if the header Accept asks for it."""
    server = server_of(request)
    accept = ",".join(request.headers.getlist("accept"))
    body, content_type = await asyncio.to_thread(server.exposition.render, accept)
    return Response(body, headers={"content-type": content_type})


async def statistics(request: Request) -> Response:
    """Statistics in the form of Triton's extension."""
    one = "model" in request.path_params
    models = [hosted_of(request)] if one else list(server_of(request).models.values())
    found = [model_statistics(hosted.name, hosted.version, hosted.meter) for hosted in models]
    return JSONResponse({"model_stats": found})
