"""Routes by which an operator looks at a cascade and moves it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pilotfish.errors import BudgetError, UsageError
from pilotfish.serve.http.body import read_body
from pilotfish.serve.refusal import Refusal

if TYPE_CHECKING:
    from pilotfish.serve.hosted import Hosted
    from pilotfish.serve.server import Server

AIMS = ("max_drop", "max_cost", "min_metric")


def control_routes() -> list[Route]:
    """GET and PUT of the operating point."""
    path = "/v2/models/{model}/operating_point"
    return [Route(path, operating_point, methods=["GET"]), Route(path, move, methods=["PUT"])]


def _hosted(request: Request, changes: bool = False) -> Hosted:
    """The cascade that is asked for, by somebody who may."""
    server: Server = request.app.state.server
    server.access.check(request.scope, changes)
    return server.hosted(request.path_params["model"])


async def operating_point(request: Request) -> Response:
    """The point in force."""
    return JSONResponse(_hosted(request).point.to_json())


async def move(request: Request) -> Response:
    """Move to the best point of the frontier within one limit."""
    hosted = _hosted(request, changes=True)
    body = await read_body(request, hosted.options.limits)
    try:
        asked: Any = json.loads(body)
    except (ValueError, RecursionError):
        raise Refusal(
            400, 'the body is no JSON; expected an object such as {"max_drop": 0.005}', "bad_request"
        ) from None
    if not isinstance(asked, dict) or len(asked) != 1 or not set(asked) <= set(AIMS):
        raise Refusal(400, f"expected an object with exactly one of {', '.join(AIMS)}", "bad_request")
    try:
        return JSONResponse(hosted.move(**asked).to_json())
    except (BudgetError, UsageError) as error:
        raise Refusal(400, str(error), "bad_request") from None
