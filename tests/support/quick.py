"""Commands without what takes longest in them, for tests of what they find."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Sequence
from typing import Any

import pytest

from pilotfish.models.costs.timing import Timing, time_batches
from pilotfish.models.model import Backend
from pilotfish.recording import finished, planned
from pilotfish.recording.time_samples import time_samples
from pilotfish.report import svg
from pilotfish.report.html import Markup

MOMENT = 0.1  # seconds


def briefly(patched: pytest.MonkeyPatch) -> None:
    """Until *patched* is undone, recordings time models for a moment, builds look for the fastest way to run for one,
    and bench asks a few requests."""

    def moment(
        backend: Backend, shape: tuple[int, ...], sizes: Sequence[int], _: float, *rest: Any, **more: Any
    ) -> Timing:
        return time_batches(backend, shape, sizes, MOMENT, *rest, **more)

    patched.setattr(planned, "time_batches", moment)
    patched.setattr(finished, "time_samples", functools.partial(time_samples, seconds=MOMENT))
    patched.setattr(importlib.import_module("pilotfish.recording.record"), "SECONDS", MOMENT)
    patched.setattr(importlib.import_module("pilotfish.flow.build"), "RUNTIME_SECONDS", 2 * MOMENT)
    patched.setattr(importlib.import_module("pilotfish.runtime.bench"), "REQUESTS", 20)


def quick(patched: pytest.MonkeyPatch) -> None:
    """As :func:`briefly`; recordings time nothing, so that costs are counted, and reports are without their plots."""
    briefly(patched)
    for module in (planned, finished):
        patched.setattr(module, "measured_times", lambda *_: None)
    for module in (importlib.import_module("pilotfish.recording.record"), finished):
        patched.setattr(module, "time_samples", lambda *_, **__: None)
    patched.setattr(svg, "_render", lambda *_: Markup(""))
