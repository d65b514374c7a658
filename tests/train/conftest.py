"""Trainings whose records are timed for a moment."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.quick import briefly


@pytest.fixture(scope="module", autouse=True)
def brief() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        briefly(patched)
        yield
