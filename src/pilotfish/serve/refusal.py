"""A request that is not answered, as HTTP has it."""

from __future__ import annotations

from collections.abc import Mapping

from pilotfish.errors import PilotfishError


class Refusal(PilotfishError):  # noqa: N818 - as httpx says Response
    """A request, or an input of one, that is refused.

    status   of the HTTP response; its body is ``{"error": text}``
    cause    in metrics and logs: one of a few words
    headers  of the response
    """

    def __init__(self, status: int, text: str, cause: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(text)
        self.status, self.cause, self.headers = status, cause, dict(headers or {})


def busy(text: str, cause: str, seconds: float) -> Refusal:
    """503, and after how many seconds to come again."""
    return Refusal(503, text, cause, {"Retry-After": str(max(1, min(60, round(seconds + 0.5))))})
