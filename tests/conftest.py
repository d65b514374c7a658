"""pytest puts the folder of this file on the path, so tests import their helpers from ``support``."""

import functools
import os
import signal
import tempfile
from pathlib import Path

import pytest
import typer.main
from hypothesis import settings

# exported models are shared by the tests of one user, and are not those of the user's own cache
os.environ.setdefault("PILOTFISH_CACHE", str(Path(tempfile.gettempdir()) / f"pilotfish-tests-{os.getuid()}"))

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # a shell started this in the background; children inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)

os.fsync = lambda _: None  # processes are killed here, but the power stays on

typer.main.get_command = functools.cache(typer.main.get_command)  # else each command builds all of them anew

settings.register_profile("pilotfish", deadline=None, max_examples=60)  # a busy machine is no failure
settings.load_profile("pilotfish")

LONG = ("flow", "train", "runtime")  # folders of tests that take longest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first, so that no process is left with them when the others are done."""
    here = Path(__file__).parent
    items.sort(key=lambda item: item.path.relative_to(here).parts[0] not in LONG)
