"""``python -m pilotfish``: the command line without the installed script."""

from __future__ import annotations

if __name__ == "__main__":
    from pilotfish.cli import __main__  # noqa: F401 - runs when it is imported
