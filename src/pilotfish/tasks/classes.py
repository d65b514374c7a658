"""One class per sample."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pilotfish.scores.outputs import Outputs
from pilotfish.tasks.task import Metric, Task, register

ACCURACY = Metric("accuracy", "accuracy")


def right(outputs: Outputs, truth: NDArray[np.int64]) -> NDArray[np.bool_]:
    """bool (N,): whether the predicted class is the true one."""
    return np.asarray(outputs.prediction == truth)


CLASSES = register(Task("classes", ACCURACY, right))
