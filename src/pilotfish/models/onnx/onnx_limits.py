"""Calls of ONNX files of others, held to limits of time and memory.

Where a graph says beforehand how much memory a sample takes, batches are cut so that a call stays within the limit, and
a file of which one sample takes more is refused. Where it does not say, ONNX Runtime allocates from an arena of that
size. Loops get a time that grows with the samples and with what one sample has taken.
"""

from __future__ import annotations

import functools
import math
import os
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pilotfish.errors import ModelError, ModelMemoryError, UsageError
from pilotfish.machine import cpu_count
from pilotfish.models.onnx.onnx_demand import BYTES, Demand

SECONDS, GIGABYTES = "PILOTFISH_CALL_SECONDS", "PILOTFISH_CALL_GB"
TRIALS = 3  # single samples that may take too much memory, before the file is given up
LARGEST_CONSTANT = 2**28  # bytes of one that ONNX Runtime computes when it opens a file
FLOAT = 4  # bytes of the numbers that networks mostly compute with


def call_seconds() -> float:
    """Seconds that a call with loops may take on one sample; ``PILOTFISH_CALL_SECONDS``, 10 by default."""
    return _setting(SECONDS, 10.0)


def call_bytes() -> int:
    """Memory that a call may take beside the model; ``PILOTFISH_CALL_GB``, by default 1.25 GB and a little per core."""
    return int(_setting(GIGABYTES, 1.25 + 0.0625 * max(0, cpu_count() - 4)) * 2**30)


def _setting(name: str, otherwise: float) -> float:
    text = os.environ.get(name)
    try:
        value = otherwise if text is None else float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < 1e9:
        raise UsageError(f"{name} is a number above 0, found {str(text)[:40]!r}")
    return value


class Limits:
    """The limits of one file, and what its calls have shown. ModelError where one sample alone takes too much."""

    def __init__(self, path: Path, demand: Demand) -> None:
        self.path, self.demand = path, demand
        self._slowest: float | None = None  # seconds per sample
        self._refused = 0
        self._fault: str | None = None
        if demand.peak is not None and demand.peak > call_bytes():
            raise ModelError(
                f"{path}: one sample takes up to {demand.peak / 2**30:,.1f} GB of memory, "
                f"{call_bytes() / 2**30:.2f} are allowed; allow more with {GIGABYTES}"
            )

    def rows(self, n: int) -> int:
        """How many of *n* samples one call may take."""
        if not self.demand.peak:
            return n
        return min(n, max(1, call_bytes() * BYTES // (FLOAT * self.demand.peak)))

    def set_options(self, options: Any) -> list[str]:
        """Hold a session to be opened to the limits; returns the optimizers of ONNX Runtime that must not run."""
        options.add_session_config_entry(
            "optimization.constant_folding_max_output_size_in_bytes", str(LARGEST_CONSTANT)
        )
        if self.demand.peak is None and _arena():
            options.add_session_config_entry("session.use_env_allocators", "1")
            options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")
        return ["ConstantFolding"] if self.demand.constants > call_bytes() else []

    def run(self, session: Any, names: Sequence[str], feed: Mapping[str, Any], free: bool) -> list[Any]:
        """One call. *free*: whether it may be made with one sample first, which says how long one takes.

        ModelError when it does not end in time, or takes more memory than is allowed.
        """
        if self._fault is not None:
            raise ModelError(self._fault)
        rows = len(next(iter(feed.values())))
        try:
            if not self.demand.loops:
                found: list[Any] = session.run(list(names), dict(feed))
            else:
                if self._slowest is None and free and rows > 1:
                    self._timed(session, names, {name: value[:1] for name, value in feed.items()}, 1)
                found = self._timed(session, names, feed, rows)
        except ModelError:
            raise
        except Exception as error:  # ONNX Runtime's own exception types are not public
            if self.demand.peak is None and ("Available memory of" in str(error) or "bfc_arena" in str(error)):
                raise self._too_much(rows) from error
            raise
        self._refused = 0
        return found

    def _timed(self, session: Any, names: Sequence[str], feed: Mapping[str, Any], rows: int) -> list[Any]:
        import onnxruntime as ort

        seconds = call_seconds() + 3 * rows * (self._slowest or 0.0)
        options, late = ort.RunOptions(), threading.Event()
        options.log_severity_level = 4  # its errors are raised as well

        def stop() -> None:
            late.set()
            options.terminate = True

        timer = threading.Timer(seconds, stop)
        timer.daemon = True
        begun = time.monotonic()
        timer.start()
        try:
            found: list[Any] = session.run(list(names), dict(feed), options)
        except Exception as error:
            if not late.is_set():
                raise
            self._fault = (
                f"{self.path}: a call on {_samples(rows)} did not end within {seconds:.0f} s, its loops may have no "
                f"end; allow more with {SECONDS}"
            )
            raise ModelError(self._fault) from error
        finally:
            timer.cancel()
        self._slowest = max(self._slowest or 0.0, (time.monotonic() - begun) / rows)
        return found

    def _too_much(self, rows: int) -> ModelError:
        said = (
            f"{self.path}: a call on {_samples(rows)} takes more memory than the {call_bytes() / 2**30:.2f} GB that "
            f"are allowed; allow more with {GIGABYTES}"
        )
        self._refused += rows == 1
        if self._refused < TRIALS:
            return ModelMemoryError(said)
        self._fault = said
        return ModelError(said)


@functools.cache
def _arena() -> bool:
    """Give ONNX Runtime one arena of the allowed size for the rest of the process; whether it took it."""
    import onnxruntime as ort

    try:
        ort.create_and_register_allocator(
            ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT),
            ort.OrtArenaCfg({"max_mem": call_bytes(), "arena_extend_strategy": 1}),  # 1: as much as is asked for
        )
    except Exception:  # a program around this one has given it another
        return False
    return True


def _samples(rows: int) -> str:
    return f"{rows} samples" if rows != 1 else "1 sample"
