"""Commands without what takes longest in them, for tests of what they find."""

from __future__ import annotations

import importlib

import pytest

from pilotfish.recording import finished, planned
from pilotfish.report import svg
from pilotfish.report.html import Markup


def quick(patched: pytest.MonkeyPatch) -> None:
    """Until *patched* is undone, recordings time nothing, so that costs are counted; builds look for the fastest way to
    run for a moment, bench a few requests, and leave the plots out of their report."""
    for module in (planned, finished):
        patched.setattr(module, "measured_times", lambda *_: None)
    for module in (importlib.import_module("pilotfish.recording.record"), finished):
        patched.setattr(module, "time_samples", lambda *_, **__: None)
    patched.setattr(importlib.import_module("pilotfish.flow.build"), "RUNTIME_SECONDS", 0.2)
    patched.setattr(importlib.import_module("pilotfish.runtime.bench"), "REQUESTS", 20)
    patched.setattr(svg, "_render", lambda *_: Markup(""))
