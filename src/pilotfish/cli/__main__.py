"""``python -m pilotfish.cli``: the command line without the installed script."""

from __future__ import annotations

from pilotfish.cli.main import run

run()
