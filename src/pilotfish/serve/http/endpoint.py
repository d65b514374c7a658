"""Routes and their handlers."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send


class Endpoint:
    """The ASGI application of a route: sends the response that *answer* returns for a request."""

    def __init__(self, answer: Callable[[Request], Awaitable[Response]]) -> None:
        functools.update_wrapper(self, answer)
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._answer(Request(scope, receive))
        await response(scope, receive, send)


def route(
    path: str,
    answer: Callable[[Request], Awaitable[Response]],
    methods: Sequence[str] = ("GET",),
    include_in_schema: bool = True,
) -> Route:
    """A route handled by *answer*. :class:`pilotfish.serve.http.app.Routes` handles its errors."""
    return Route(path, Endpoint(answer), methods=methods, include_in_schema=include_in_schema)
