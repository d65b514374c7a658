"""Outputs of earlier stages for samples still under way, for rules that look back."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.errors import ModelError

Rows = NDArray[np.intp]


class Memory:
    """Reduced outputs by stage and sample, in arrays that are made when a stage first answers.

    size  maximum number of samples under way: a sample's place is its number modulo *size*
    """

    def __init__(self, size: int, stages: int) -> None:
        self.size = size
        self.kept: list[Any] = [None] * stages

    def write(self, stage: int, rows: Rows, outputs: Any) -> None:
        """Keep the outputs of *rows*; *outputs* hold as many samples."""
        if self.kept[stage] is None:
            empty: dict[str, Any] = {name: _like(value, self.size) for name, value in vars(outputs).items()}
            self.kept[stage] = type(outputs)(**empty)
        for name, array in vars(self.kept[stage]).items():
            value = getattr(outputs, name)
            if array is not None and value is not None:
                array[rows % self.size] = value

    def read(self, stage: int, rows: Rows) -> Any:
        """The outputs of *rows* at an earlier stage."""
        kept = self.kept[stage]
        if kept is None:
            raise ModelError(f"stage {stage} has not run on these samples; this is a bug, please report it")
        return kept.take(rows % self.size)


def _like(value: NDArray[np.generic] | None, n: int) -> NDArray[np.generic] | None:
    return None if value is None else np.zeros((n, *value.shape[1:]), value.dtype)
