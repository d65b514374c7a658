"""Progress of a run with one model at a time, kept in one file, so that a killed run resumes where it stopped."""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.errors import ArtefactError
from pilotfish.files import atomic_path
from pilotfish.runtime.memory import Memory
from pilotfish.tasks import CLASSES, Task

BYTES_PER_SAMPLE = 2**17  # and stage: more than the outputs of any classifier
COLUMNS = ("prediction", "confidence", "stage")


@dataclass
class State:
    """identity: of the cascade and the inputs; current: the stage that is running; done: how many of the samples that
    reach it are done. The arrays are those of :class:`Answers`, with -1 where there is no answer yet."""

    identity: str
    n: int
    stages: int
    task: Task = CLASSES
    current: int = 0
    done: int = 0
    errors: dict[int, str] = field(default_factory=dict)
    prediction: NDArray[Any] = field(init=False)
    confidence: NDArray[np.float64] = field(init=False)
    stage: NDArray[np.int64] = field(init=False)
    reached: NDArray[np.int64] = field(init=False)
    memory: Memory = field(init=False)

    def __post_init__(self) -> None:
        self.prediction = np.full(self.n, self.task.missing)
        self.confidence = np.full(self.n, np.nan)
        self.stage = np.full(self.n, -1, np.int64)
        self.reached = np.arange(self.n)  # samples that reach the current stage
        self.memory = Memory(self.n, self.stages)

    def survivors(self) -> NDArray[np.int64]:
        """Samples with neither an answer nor an error."""
        open_ = self.stage < 0
        open_[list(self.errors)] = False
        return np.flatnonzero(open_)

    def write(self, path: Path) -> None:
        """Keep the state in *path*, atomically."""
        facts = {
            "identity": self.identity,
            "current": self.current,
            "done": self.done,
            "errors": {str(row): text for row, text in self.errors.items()},
        }
        columns: dict[str, Any] = {name: getattr(self, name) for name in (*COLUMNS, "reached")}
        for k, outputs in enumerate(self.memory.kept):
            for name, array in vars(outputs).items() if outputs is not None else ():
                if array is not None:
                    columns[f"{k}.{name}"] = array
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez(file, facts=np.array(json.dumps(facts)), **columns)

    def read(self, path: Path) -> None:
        """Restore the state in *path*; ArtefactError if it belongs to another cascade or other inputs, or is
        damaged."""
        try:
            self._check_size(path)
            with np.load(path, allow_pickle=False) as file:
                facts = json.loads(str(file["facts"]))
                if facts["identity"] != self.identity:
                    raise ArtefactError(
                        f"{path} is the state of another cascade, operating point or list of inputs; name another file"
                    )
                self.current, self.done = int(facts["current"]), int(facts["done"])
                self.errors = {int(row): str(text) for row, text in facts["errors"].items()}
                for name in (*COLUMNS, "reached"):
                    setattr(self, name, file[name])
                self.memory.kept = [self._outputs(file, k) for k in range(self.stages)]
            self._check()
        except ArtefactError:
            raise
        except Exception as error:  # a damaged archive makes zipfile, zlib, json and numpy raise nearly any exception
            said = " ".join(str(error).split())[:160] or type(error).__name__
            raise ArtefactError(f"{path}: not a state that can be resumed ({said}); delete it") from error

    def _check_size(self, path: Path) -> None:
        """ValueError for what is not a file, or unpacks to more than the state of these inputs can be."""
        if not path.is_file():
            raise ValueError("it is not a file")
        with zipfile.ZipFile(path) as archive:
            found = sum(entry.file_size for entry in archive.infolist())
        if found > BYTES_PER_SAMPLE * (self.n + 16) * (self.stages + 1):
            raise ValueError(f"it unpacks to {found:,} bytes, more than the state of {self.n:,} samples can be")

    def _check(self) -> None:
        """ValueError if what was read does not belong to these inputs and stages, or its parts do not fit together."""
        missing = self.task.missing
        assert missing is not None  # tasks with objects as answers have no state file
        kinds = {"prediction": missing.dtype.kind, "confidence": "f", "stage": "i"}
        if any(getattr(self, name).shape != (self.n,) for name in COLUMNS):
            raise ValueError(f"it is not of {self.n} samples")
        if any(getattr(self, name).dtype.kind != kind for name, kind in kinds.items()):
            raise ValueError("its columns have other types than were written")
        reached, rows = self.reached, np.array(list(self.errors), np.int64)
        if reached.ndim != 1 or reached.dtype.kind != "i" or not 0 <= self.done <= len(reached):
            raise ValueError("the samples that reach its stage are damaged")
        if not 0 <= self.current <= self.stages or (self.stage < -1).any() or (self.stage >= self.stages).any():
            raise ValueError("it names unknown stages")
        answers = self.prediction[self.stage >= 0]
        if not self.task.known(answers).all() or (answers < missing).any():
            raise ValueError("it names unknown answers")
        if any(((one < 0) | (one >= self.n)).any() for one in (reached, rows)):
            raise ValueError("it names unknown samples")
        for outputs in self.memory.kept:
            arrays = [] if outputs is None else [a for a in vars(outputs).values() if a is not None]
            if any(a.ndim == 0 or len(a) != self.n or a.dtype.kind not in "iuf" for a in arrays):
                raise ValueError("the outputs of a stage are damaged")

    def _outputs(self, file: Any, k: int) -> Any:
        found = {name.partition(".")[2]: file[name] for name in file.files if name.startswith(f"{k}.")}
        return self.task.outputs(**found) if found else None
