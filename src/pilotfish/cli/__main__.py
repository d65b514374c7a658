"""``python -m pilotfish.cli``: the command line without the installed script."""

from __future__ import annotations

import os
import sys

if not sys.flags.safe_path and sys.path[:1] in ([os.getcwd()], [""]):
    del sys.path[
        0
    ]  # nothing in the working directory is imported that nobody named; the installed script has no such entry

from pilotfish.cli.main import run

run()
