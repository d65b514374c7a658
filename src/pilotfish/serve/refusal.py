"""Refused requests, as HTTP responses."""

from __future__ import annotations

from collections.abc import Mapping

from pilotfish.errors import PilotfishError


class Refusal(PilotfishError):  # noqa: N818 - as httpx says Response
    """A refused request, or a refused input of one.

    status   of the HTTP response, whose body is ``{"error": text}``
    cause    one of a few words, for metrics and logs
    headers  of the response
    """

    def __init__(self, status: int, text: str, cause: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(text)
        self.status, self.cause, self.headers = status, cause, dict(headers or {})


def busy(text: str, cause: str, seconds: float) -> Refusal:
    """503, with the seconds to wait in ``Retry-After``."""
    return Refusal(503, text, cause, {"Retry-After": str(max(1, min(60, round(seconds + 0.5))))})
