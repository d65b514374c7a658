"""A small cascade that is served."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

pytest.importorskip("starlette", reason="pilotfish[serve] is not installed")
pytest.importorskip("uvicorn", reason="pilotfish[serve] is not installed")

from support.server import Serving, pictures, serving, small_cascade


@pytest.fixture(scope="session")
def cascade_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cascade folder, not to be changed."""
    return small_cascade(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="module")
def server(cascade_folder: Path) -> Iterator[Serving]:
    """It is served under the name ``pair``, with nothing watched; for tests that leave it as it is."""
    with serving({"pair": cascade_folder}) as running:
        yield running


@pytest.fixture(scope="session")
def photos() -> list[bytes]:
    """Forty PNG files, of which either stage answers some."""
    files = [io.BytesIO() for _ in range(40)]
    for image, file in zip(pictures(40, seed=5), files, strict=True):
        Image.fromarray(image).save(file, "PNG")
    return [file.getvalue() for file in files]
