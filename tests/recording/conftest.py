"""Data sets and models in numpy, so that recording can be tested without torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pilotfish.data import Dataset, load_data
from pilotfish.models import Model, Preprocessing
from pilotfish.models.names.python_model import AS_IT_IS, PythonBackend

MatrixModel = Callable[..., Model]


@pytest.fixture
def arrays(tmp_path: Path) -> Callable[..., Dataset]:
    """``arrays(x=…, label=…)``: a data set in a real .npz file."""

    def make(name: str = "data.npz", **columns: Any) -> Dataset:
        np.savez(tmp_path / name, **columns)
        return load_data(f"arrays:{tmp_path / name}")

    return make


@pytest.fixture
def matrix_model() -> MatrixModel:
    """``matrix_model(weights)``: logits are the flattened inputs times *weights* (inputs, classes)."""

    def make(weights: np.ndarray, preprocessing: Preprocessing = AS_IT_IS, **fields: Any) -> Model:
        def logits(batch: np.ndarray) -> np.ndarray:
            return batch.reshape(len(batch), -1) @ weights

        return Model("matrix", PythonBackend(logits), preprocessing, fields.pop("weights_hash", "w"), **fields)

    return make
