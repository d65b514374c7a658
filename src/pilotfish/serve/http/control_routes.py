"""Routes by which an operator looks at a cascade and moves it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pilotfish.errors import BudgetError, UsageError
from pilotfish.serve.refusal import Refusal

if TYPE_CHECKING:
    from pilotfish.serve.hosted import Hosted

AIMS = ("max_drop", "max_cost", "min_metric")


def control_routes() -> list[Route]:
    """GET and PUT of the operating point."""
    path = "/v2/models/{model}/operating_point"
    return [Route(path, operating_point, methods=["GET"]), Route(path, move, methods=["PUT"])]


def _hosted(request: Request) -> Hosted:
    found: Hosted = request.app.state.server.hosted(request.path_params["model"])
    return found


async def operating_point(request: Request) -> Response:
    """The point in force."""
    return JSONResponse(_hosted(request).point.to_json())


async def move(request: Request) -> Response:
    """Move to the best point of the frontier within one limit."""
    hosted = _hosted(request)
    try:
        asked: Any = json.loads(await request.body())
    except ValueError:
        raise Refusal(
            400, 'the body is no JSON; expected an object such as {"max_drop": 0.005}', "bad_request"
        ) from None
    if not isinstance(asked, dict) or len(asked) != 1 or not set(asked) <= set(AIMS):
        raise Refusal(400, f"expected an object with exactly one of {', '.join(AIMS)}", "bad_request")
    try:
        return JSONResponse(hosted.move(**asked).to_json())
    except (BudgetError, UsageError) as error:
        raise Refusal(400, str(error), "bad_request") from None
