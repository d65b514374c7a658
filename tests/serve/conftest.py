"""A small cascade that is served."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("starlette", reason="pilotfish[serve] is not installed")
pytest.importorskip("uvicorn", reason="pilotfish[serve] is not installed")

from support.server import Serving, serving, small_cascade


@pytest.fixture(scope="session")
def cascade_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cascade folder, not to be changed."""
    return small_cascade(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="module")
def server(cascade_folder: Path) -> Iterator[Serving]:
    """It is served under the name ``pair``, with nothing watched; for tests that leave it as it is."""
    with serving({"pair": cascade_folder}) as running:
        yield running
