"""A cascade behind HTTP: the server, what it promises of every request, and what it watches."""

from pilotfish.serve.options import Limits, ServeOptions
from pilotfish.serve.server import Server

__all__ = ["Limits", "ServeOptions", "Server"]
