"""Cascades behind HTTP: the server, its limits, and what it monitors."""

from pilotfish.serve.options import Limits, ServeOptions
from pilotfish.serve.server import Server

__all__ = ["Limits", "ServeOptions", "Server"]
