"""``python -m pilotfish.cli``: the command line without the installed script."""

from __future__ import annotations

import os
import sys


def _working_folder() -> str:
    try:
        return os.getcwd()
    except OSError:  # it was deleted
        return ""


# The working folder is not imported from, as with the installed script.
if not sys.flags.safe_path and sys.path[:1] in ([_working_folder()], [""]):
    del sys.path[0]

from pilotfish.cli.main import run  # noqa: E402

run()
