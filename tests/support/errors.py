"""What every error message has in common."""

from __future__ import annotations


def assert_one_line(error: BaseException, *parts: str) -> None:
    """One line, and every one of *parts* is in it."""
    message = str(error)
    assert len(message.splitlines()) == 1, message
    assert all(part in message for part in parts), message
