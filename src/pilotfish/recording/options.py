"""What a recording is asked for, and what it came to."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pilotfish.errors import UsageError
from pilotfish.records import Failure, GroupBy
from pilotfish.records.importers import checked_costs
from pilotfish.tasks import find_task
from pilotfish.text import quantity

Progress = Callable[[str, int, int], None]
SHOWN_FAILURES = 20


@dataclass(frozen=True)
class RecordResult:
    """What one recording came to.

    n        rows; failures are the samples without one
    started  the sample it went on from: 0, or more after an interruption
    skipped  whether these very records were there already
    rate     samples per second of this start
    notes    what the reader of these records should know, a line each
    """

    run: str
    model: str
    split: str
    n: int
    cost: dict[str, float]
    path: Path
    failures: tuple[Failure, ...] = ()
    started: int = 0
    skipped: bool = False
    rate: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def all_notes(self) -> tuple[str, ...]:
        """The notes, and which samples have no row (twenty of them by name)."""
        unread = [f"no row for {f.id}: {f.reason}" for f in self.failures[:SHOWN_FAILURES]]
        if len(self.failures) > SHOWN_FAILURES:
            unread.append(f"{quantity(len(self.failures), 'sample has', 'samples have')} no row")
        return (*self.notes, *unread)

    def to_json(self) -> dict[str, Any]:
        """One entry of ``pilotfish record --json``."""
        return {
            "run": self.run,
            "model": self.model,
            "split": self.split,
            "n": self.n,
            "cost": self.cost,
            "path": str(self.path),
            "failures": [{"id": f.id, "reason": f.reason} for f in self.failures],
            "started": self.started,
            "skipped": self.skipped,
            "samples_per_second": self.rate,
            "notes": list(self.all_notes),
        }


@dataclass(frozen=True)
class RecordOptions:
    """How to record.

    batch_size  None: the fastest that was measured
    workers     threads that read samples; None: as many as cores
    store       ``full`` keeps all logits, ``topK`` the K best; None: full up to 128 classes, top10 above. Of task mask
                ``full`` computes the score slic as well
    augment     seed of the augmented views; None records the images as they are
    timing      measure time per sample at several batch sizes first, and up to 200 single samples at the end
    overwrite   replace records of other weights, data or settings
    costs       further costs per sample that you know, such as ``{"joules": 0.8, "usd": 4e-6}``; for one model
    group_by    samples that belong together (see :func:`pilotfish.recording.finished.data_groups`)
    task        what an answer is, by name; None: as the data or the model say it, else classes
    """

    split: str = "val"
    batch_size: int | None = None
    device: str = "cpu"
    workers: int | None = None
    store: str | None = None
    augment: int | None = None
    timing: bool = True
    overwrite: bool = False
    costs: Mapping[str, float] = field(default_factory=dict)
    group_by: GroupBy | None = None
    task: str | None = None


def check_options(options: RecordOptions, names: Sequence[str], alias: str | None) -> None:
    """UsageError for options that make no sense, alone or together."""
    if not names:
        raise UsageError("no model was named; see `pilotfish models`")
    if len(set(names)) != len(names):
        raise UsageError(f"a model is named twice: {', '.join(names)}")
    if alias is not None and len(names) > 1:
        raise UsageError(f"--as names one model's records, but {len(names)} models were given")
    if options.costs and len(names) > 1:
        raise UsageError(f"a cost belongs to one model, but {len(names)} models were given; record them one at a time")
    checked_costs(options.costs)
    task = None if options.task is None else find_task(options.task)
    everything = options.store == "full" and task is not None and task.sees_inputs  # scores that take long
    if options.store is not None and task is not None and not task.classes and not everything:
        raise UsageError(f"--store says which logits of classes are kept; task {options.task} has none: leave it out")
    if options.store is not None and not re.fullmatch(r"full|top[1-9]\d{0,4}", options.store):
        raise UsageError(f"store is full or topK, such as top5; found {options.store!r}")
    for what, value in (("batch size", options.batch_size), ("workers", options.workers)):
        if value is not None and not 1 <= value <= 65536:
            raise UsageError(f"{what} must be from 1 to 65536, found {value}")
