"""Tasks: what an answer is. A task is one file that binds everything that depends on it."""

from pilotfish.tasks.classes import ACCURACY, CLASSES
from pilotfish.tasks.task import Metric, Task, find_task, register, says_of

__all__ = ["ACCURACY", "CLASSES", "Metric", "Task", "find_task", "register", "says_of"]
