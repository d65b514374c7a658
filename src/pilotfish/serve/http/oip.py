"""The Open Inference Protocol v2 over HTTP, with Triton's binary tensors: its routes and metadata."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pilotfish._version import __version__
from pilotfish.errors import one_line
from pilotfish.serve.http.endpoint import route
from pilotfish.serve.http.exchange import (
    body_of,
    caller_of,
    classes_of,
    document,
    hosted_of,
    most_of,
    ready,
    replied,
    respond,
    server_of,
    told,
    unanswered,
)
from pilotfish.serve.http.json_body import read_aside
from pilotfish.serve.http.oip_infer import OUTPUTS, json_length, read_infer, write_infer
from pilotfish.serve.http.oip_tensors import INPUT
from pilotfish.serve.refusal import Refusal
from pilotfish.serve.takes import Takes

HEADER_LENGTH = "inference-header-content-length"
EXTENSIONS = ("binary_tensor_data", "classification", "model_configuration", "model_repository", "statistics")
NOT_HERE = (
    "/v2/trace/setting",
    "/v2/logging",
    "/v2/models/{model}/trace/setting",
    "/v2/systemsharedmemory/{path:path}",
    "/v2/cudasharedmemory/{path:path}",
    "/v2/repository/models/{path:path}",
)
"""Paths of Triton's extensions that are not supported."""
CONFIG = {"BYTES": "TYPE_STRING"}  # every other datatype is TYPE_ plus its name


def server_metadata() -> dict[str, Any]:
    """``GET /v2``."""
    return {"name": "pilotfish", "version": __version__, "extensions": list(EXTENSIONS)}


def model_metadata(name: str, version: str, takes: Takes, classes: bool) -> dict[str, Any]:
    """``GET /v2/models/M``. -1 in a shape stands for any size."""
    return {
        "name": name,
        "versions": [version],
        "platform": "pilotfish_cascade",
        "inputs": [_input(takes)],
        "outputs": [{"name": name, "datatype": datatype, "shape": [-1]} for name, datatype in _datatypes(classes)],
    }


def model_config(name: str, takes: Takes, classes: bool) -> dict[str, Any]:
    """``GET /v2/models/M/config`` in Triton's form: with a batch size of 0 the shapes are those of the metadata."""
    given = _input(takes)
    return {
        "name": name,
        "platform": "pilotfish_cascade",
        "backend": "pilotfish",
        "version_policy": {"latest": {"num_versions": 1}},
        "max_batch_size": 0,
        "input": [{"name": INPUT, "data_type": _type(given["datatype"]), "dims": given["shape"]}],
        "output": [
            {"name": name, "data_type": _type(datatype), "dims": [-1]} for name, datatype in _datatypes(classes)
        ],
    }


def _input(takes: Takes) -> dict[str, Any]:
    if takes.images:
        return {"name": INPUT, "datatype": "BYTES", "shape": [-1]}
    return {"name": INPUT, "datatype": "FP32", "shape": [-1, *(takes.shape or ())]}


def _datatypes(classes: bool) -> list[tuple[str, str]]:
    return [(name, "BYTES" if name == "prediction" and not classes else datatype) for name, datatype in OUTPUTS.items()]


def _type(datatype: str) -> str:
    return CONFIG.get(datatype, f"TYPE_{datatype}")


def oip_routes() -> list[Route]:
    """All routes of the protocol except statistics."""
    models = ("/v2/models/{model}", "/v2/models/{model}/versions/{version}")
    gets = {"": metadata, "/ready": ready, "/config": config}
    return [
        *(route(f"{path}/infer", infer, methods=["POST"]) for path in models),
        route("/v2/health/live", live),
        route("/v2/health/ready", all_ready),
        *(route(f"{path}{end}", answer, methods=["GET"]) for path in models for end, answer in gets.items()),
        route("/v2", server),
        route("/v2/repository/index", index, methods=["POST"]),
        *(route(path, not_here, methods=["GET", "POST"], include_in_schema=False) for path in NOT_HERE),
    ]


async def live(request: Request) -> Response:
    """Whether the server runs."""
    return document(request, {"live": True})


async def all_ready(request: Request) -> Response:
    """Whether every cascade is warmed up and the server is not draining."""
    server = server_of(request)
    server.wake()  # a load balancer sends no request until this is 200
    is_ready = server.ready
    return document(request, {"ready": is_ready}, 200 if is_ready else 503)


async def server(request: Request) -> Response:
    """The server's metadata."""
    return document(request, server_metadata())


async def index(request: Request) -> Response:
    """The cascades and their states."""
    states = {"READY": "READY", "WARMING": "LOADING", "DRAINING": "UNLOADING"}
    return document(
        request,
        [
            {"name": name, "version": hosted.version, "state": states[hosted.state], "reason": ""}
            for name, hosted in server_of(request).models.items()
        ],
    )


async def metadata(request: Request) -> Response:
    """The metadata of a cascade: its tensors."""
    hosted = hosted_of(request)
    return document(request, model_metadata(hosted.name, hosted.version, hosted.takes, classes_of(hosted)))


async def config(request: Request) -> Response:
    """The configuration of a cascade, in Triton's form."""
    hosted = hosted_of(request)
    return document(request, model_config(hosted.name, hosted.takes, classes_of(hosted)))


async def not_here(request: Request) -> Response:
    """Refuse an extension of Triton's that is not supported."""
    path = one_line(request.url.path[:200])
    raise Refusal(404, f"{path} belongs to an extension that this server does not support", "not_found")


async def infer(request: Request) -> Response:
    """Inference: answer all inputs, or name the first that has no answer."""
    hosted = hosted_of(request)
    takes, classes, most = hosted.takes, classes_of(hosted), most_of(request)
    body, header = await body_of(request), request.headers.get(HEADER_LENGTH)
    size = min(len(body), json_length(header, len(body)))
    asked = await read_aside(size, lambda: read_infer(body, header, takes, most, classes))
    caller = caller_of(request, asked.timeout, whole=True)
    reply = await replied(request, hosted, asked.entries(), caller)
    for place, served in enumerate(reply.answers):
        if served.cause is not None:
            return unanswered(request, reply, served, f"{INPUT}[{place}]: ")
    content, headers = write_infer(asked, reply, reply.point.artefact.task.classes)
    return respond(request, content, {**headers, **told(reply)})
