"""Tasks: what an answer is. A task is one file that binds everything that depends on it."""

from pilotfish.tasks.boxes import BOXES
from pilotfish.tasks.chance import NO_LABEL, Verdict, judge
from pilotfish.tasks.classes import ACCURACY, CLASSES
from pilotfish.tasks.labels import LABELS
from pilotfish.tasks.mask import MASK
from pilotfish.tasks.task import Adjustment, Column, Metric, Task, find_task, register, says_of

__all__ = [
    "ACCURACY",
    "BOXES",
    "CLASSES",
    "LABELS",
    "MASK",
    "NO_LABEL",
    "Adjustment",
    "Column",
    "Metric",
    "Task",
    "Verdict",
    "find_task",
    "judge",
    "register",
    "says_of",
]
