"""Hugging Face's hub when it cannot be reached.

Its client retries for half a minute per file and talks about it on stderr; without a network the cache is all there
is, and whether there is one takes a moment to find out.
"""

from __future__ import annotations

import contextlib
import socket
import urllib.request
from collections.abc import Iterator
from urllib.parse import urlsplit

SECONDS = 5.0


@contextlib.contextmanager
def cache_alone_if_unreachable() -> Iterator[None]:
    """Inside, the hub's client reads its cache alone when its server cannot be reached from here."""
    try:
        from huggingface_hub import constants
    except ImportError:
        yield
        return
    if constants.HF_HUB_OFFLINE or urllib.request.getproxies() or _reachable(constants.ENDPOINT):
        yield
        return
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = False


def _reachable(url: str) -> bool:
    parts = urlsplit(url)
    try:
        port = parts.port or (80 if parts.scheme == "http" else 443)
        socket.create_connection((parts.hostname or "", port), timeout=SECONDS).close()
    except (OSError, ValueError):
        return False
    return True
