"""KServe's protocol v1, which comes from TensorFlow Serving: ``POST /v1/models/M:predict``."""

from __future__ import annotations

from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pilotfish.serve.http.endpoint import route
from pilotfish.serve.http.exchange import (
    answered,
    document,
    hosted_of,
    json_body,
    most_of,
    ready,
    replied,
    server_of,
)
from pilotfish.serve.http.items import entries_of
from pilotfish.serve.http.json_body import bad
from pilotfish.serve.served import Entry
from pilotfish.serve.takes import Takes


def v1_routes() -> list[Route]:
    """The routes of the protocol."""
    paths = ("/v1/models/{model}", "/v1/models/{model}/versions/{version}")
    return [
        route("/v1/models", models),
        *(route(f"{path}:predict", predict, methods=["POST"]) for path in paths),
        *(route(f"{path}:predict", no_get, include_in_schema=False) for path in paths),
        *(route(path, ready, methods=["GET"]) for path in paths),
    ]


async def models(request: Request) -> Response:
    """The names of the models."""
    return document(request, {"models": list(server_of(request).models)})


async def predict(request: Request) -> Response:
    """Answer every input, as ``POST /predict`` does; an invalid one of several has its error in its prediction."""
    hosted = hosted_of(request)
    takes, most = hosted.takes, most_of(request)
    entries = await json_body(request, lambda said: read_instances(said, takes, most))
    reply = await replied(request, hosted, entries)
    return answered(request, reply, predictions=[served.to_json() for served in reply.answers])


async def no_get(request: Request) -> Response:
    """Keep the path of predictions from being taken for a model named ``M:predict``."""
    raise HTTPException(405)


def read_instances(said: Any, takes: Takes, most: int) -> list[Entry]:
    """The inputs of a request of protocol v1. Refusal, 400, if it is invalid."""
    if not isinstance(said, dict) or "instances" not in said:
        raise bad('a request of protocol v1 has the form {"instances": […]}')
    return entries_of(said["instances"], takes, most)
