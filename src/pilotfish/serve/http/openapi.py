"""``GET /openapi.json``: describes the routes in OpenAPI 3.1."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from pilotfish._version import __version__
from pilotfish.serve.http.endpoint import route
from pilotfish.serve.http.exchange import document
from pilotfish.serve.http.oip_tensors import DATATYPES

TEXT, NUMBER, WHOLE, FLAG = ({"type": kind} for kind in ("string", "number", "integer", "boolean"))
LIMIT = {"type": ["number", "string"]}
UNKNOWN: dict[str, Any] = {}  # a schema that matches any value
STATUSES = {
    "400": "The request or one of its inputs is invalid.",
    "404": "No such model, version or path.",
    "413": "The body is too large.",
    "415": "The type or the coding of the body is not supported.",
    "503": "Not ready, overloaded or too late; see Retry-After.",
}
DENIED = {"401": "A token is required.", "403": "The server has no tokens, so it allows no changes."}
OPERATORS = ("/operating_point", "/audit", "/drift", "/labels")  # ends of the paths that need a token
PARAMETERS = {"model": "A cascade's name.", "version": "Its version, 1."}
QUERY = {"model": "The cascade, if several are served.", "id": "The id of an image sent as the body."}
HEADERS = {
    "Pilotfish-Operating-Point": "The operating point of the answers.",
    "Pilotfish-Stages": "For each input the stage that answered, 0 for the saver; - for none.",
    "Pilotfish-Confidences": "For each input the confidence of that stage.",
    "Pilotfish-Flags": "For each input its flags, joined by +; - for none. Absent if no input has any.",
}


def openapi_routes() -> list[Route]:
    """``GET /openapi.json``."""
    return [route("/openapi.json", openapi, methods=["GET"])]


async def openapi(request: Request) -> Response:
    """This document."""
    return document(request, describe(request.app.routes))


def describe(routes: Iterable[BaseRoute]) -> dict[str, Any]:
    """The OpenAPI document of *routes*; the summary is the first sentence of the handler's docstring."""
    paths: dict[str, dict[str, Any]] = {}
    for one in routes:
        if isinstance(one, Route) and one.include_in_schema:
            for method in sorted((one.methods or set()) - {"HEAD"}):
                paths.setdefault(one.path_format, {})[method.lower()] = _operation(one, method)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Pilotfish", "version": __version__, "description": "Cascades of models behind HTTP."},
        "paths": paths,
        "components": {
            "schemas": SCHEMAS,
            "headers": {name: {"description": text, "schema": TEXT} for name, text in HEADERS.items()},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(route: Route, method: str) -> dict[str, Any]:
    lines = " ".join((route.endpoint.__doc__ or route.name).split()).partition(". ")
    named = re.findall(r"{(\w+)}", route.path_format)
    parameters = [{"name": name, "in": "path", "required": True, "schema": TEXT} for name in named]
    for parameter in parameters:
        parameter["description"] = PARAMETERS.get(str(parameter["name"]), "")
    if route.path_format == "/predict":
        for name, what in QUERY.items():
            parameters.append({"name": name, "in": "query", "required": False, "schema": TEXT, "description": what})
    body, answer = next(
        (told for (method_of, end), told in BODIES.items() if method == method_of and route.path_format.endswith(end)),
        (None, UNKNOWN),
    )
    kind = "text/plain" if route.path_format == "/metrics" else "application/json"
    ok: dict[str, Any] = {"description": "The answer.", "content": {kind: {"schema": answer}}}
    if answer in (_of("Predicted"), _of("V1Answer"), _of("InferAnswer")):
        ok["headers"] = {name: {"$ref": f"#/components/headers/{name}"} for name in HEADERS}
    if answer == _of("InferAnswer"):
        ok["content"]["application/octet-stream"] = {"schema": {"description": "JSON, followed by tensors."}}
    error = {"application/json": {"schema": _of("Error")}}
    operation: dict[str, Any] = {
        "operationId": re.sub(r"\W+", "_", f"{method.lower()}{route.path_format}").strip("_"),
        "summary": lines[0].rstrip(".") + ".",
        "parameters": parameters,
        "responses": {
            "200": ok,
            **{status: {"description": text, "content": error} for status, text in STATUSES.items()},
        },
    }
    if body is not None:
        operation["requestBody"] = {"required": True, "content": body}
    if route.path_format.endswith(OPERATORS):
        operation["security"] = [{"token": []}] if method != "GET" else [{}, {"token": []}]
        for status, text in DENIED.items():
            operation["responses"][status] = {"description": text, "content": error}
    return operation


def _of(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _list(items: Any) -> dict[str, Any]:
    return {"type": "array", "items": items}


def _object(required: str = "", **properties: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"type": "object", "properties": properties}
    return {**found, "required": required.split()} if required else found


def _or_null(kind: str) -> dict[str, Any]:
    return {"type": [kind, "null"]}


def _json(schema: Any) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


BASE64 = {"type": "string", "contentEncoding": "base64"}
FILE = {"type": "string", "contentMediaType": "application/octet-stream"}
SCHEMAS: dict[str, Any] = {
    "Error": _object("error", error=TEXT),
    "Instance": {
        **_object(b64=BASE64, text=TEXT, array=_list(UNKNOWN), id={"type": ["string", "integer"]}),
        "description": "Either b64 (an encoded image) or array, and optionally an id.",
    },
    "Instances": _object("instances", instances=_list(_of("Instance"))),
    "Answer": _object(
        "input prediction name confidence stage error id flags",
        input=TEXT,
        prediction={"description": "By task; for classes, the class."},
        name=_or_null("string"),
        confidence=_or_null("number"),
        stage=_or_null("integer"),
        error=_or_null("string"),
        id=_or_null("string"),
        flags=_list(TEXT),
    ),
    "Predicted": _object(
        "answers model operating_point", answers=_list(_of("Answer")), model=TEXT, operating_point=TEXT
    ),
    "V1Answer": _object("predictions", predictions=_list(_of("Answer"))),
    "Parameters": {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}},
    "Tensor": _object(
        "name datatype shape",
        name=TEXT,
        datatype={"enum": [*DATATYPES, "BYTES"]},
        shape=_list(WHOLE),
        parameters=_of("Parameters"),
        data=_list(UNKNOWN),
    ),
    "InferRequest": _object(
        "inputs",
        id=TEXT,
        parameters=_of("Parameters"),
        inputs={**_list(_of("Tensor")), "minItems": 1, "maxItems": 1},
        outputs=_list(_object("name", name=TEXT, parameters=_of("Parameters"))),
    ),
    "InferAnswer": _object(
        "model_name model_version outputs",
        model_name=TEXT,
        model_version=TEXT,
        id=TEXT,
        parameters=_of("Parameters"),
        outputs=_list(_of("Tensor")),
    ),
    "OperatingPoint": _object(
        "id thresholds drop cost exit_ratio",
        id=TEXT,
        thresholds=_list(UNKNOWN),
        drop=_or_null("number"),
        cost=_or_null("number"),
        exit_ratio=_list(NUMBER),
    ),
    "Move": {"allOf": [_of("OperatingPoint"), _object("moved notes", moved=FLAG, notes=_list(TEXT))]},
    "Audit": _object(
        "n disagreement bound confidence",
        n=WHOLE,
        disagreement=_or_null("number"),
        bound=_or_null("number"),
        confidence=NUMBER,
        notes=_list(TEXT),
    ),
    "Limit": {
        **_object(max_drop=LIMIT, max_cost=LIMIT, min_metric=LIMIT),
        "minProperties": 1,
        "maxProperties": 1,
    },
}
BODIES: dict[tuple[str, str], tuple[dict[str, Any] | None, dict[str, Any]]] = {
    ("POST", "/predict"): (
        {
            "image/*": {"schema": FILE},
            **_json({"anyOf": [_of("Instances"), _of("Instance")]}),
            "multipart/form-data": {"schema": _object(file=_list(FILE), b64=_list(BASE64), id=_list(TEXT))},
        },
        _of("Predicted"),
    ),
    ("POST", ":predict"): (_json(_of("Instances")), _of("V1Answer")),
    ("POST", "/infer"): (
        {**_json(_of("InferRequest")), "application/octet-stream": {"schema": FILE}},
        _of("InferAnswer"),
    ),
    ("GET", "/operating_point"): (None, _of("OperatingPoint")),
    ("PUT", "/operating_point"): (_json(_of("Limit")), _of("Move")),
    ("POST", "/labels"): (
        _json(_object("labels", labels=_list(_object("id label", id=TEXT, label={"type": ["string", "integer"]})))),
        _object("known unknown duplicate", known=WHOLE, unknown=WHOLE, duplicate=WHOLE),
    ),
    ("GET", "/audit"): (None, _of("Audit")),
    ("GET", "/stats"): (None, _object("model_stats", model_stats=_list({"type": "object"}))),
    ("GET", "/v2/health/live"): (None, _object("live", live=FLAG)),
    ("GET", "/v2/health/ready"): (None, _object("ready", ready=FLAG)),
    ("GET", "/ready"): (None, _object("name ready", name=TEXT, ready=FLAG)),
}
"""By method and end of the path: (request body by content type, response). Responses not listed here are other objects
or pages."""
