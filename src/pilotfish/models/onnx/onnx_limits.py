"""Calls of ONNX files of others, held to limits of time and memory.

A file of a few hundred bytes can ask for terabytes, or loop for ever.

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
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from pilotfish.errors import ModelError, ModelMemoryError, PilotfishError, UsageError
from pilotfish.machine import cpu_count
from pilotfish.models.onnx.onnx_graph import every_node, stored_nodes
from pilotfish.models.onnx.onnx_shapes import Shape, fixed_graph, infer_shapes
from pilotfish.text import quantity

SECONDS, GIGABYTES = "PILOTFISH_CALL_SECONDS", "PILOTFISH_CALL_GB"
TRIALS = 3  # single samples that may take too much memory, before the file is given up
LARGEST_CONSTANT = 2**28  # bytes of one that ONNX Runtime computes when it opens a file
LOOPS = ("Loop", "Scan", "SequenceMap")
BYTES = 8  # of an element: the largest number there is
FLOAT = 4  # bytes of the numbers that networks mostly compute with


@dataclass(frozen=True)
class Demand:
    """What one sample takes.

    peak       bytes of all tensors that are alive at once, at most; None where shapes depend on the data
    constants  bytes of what can be computed without any input
    loops      whether something may run any number of times
    """

    peak: int | None
    constants: int = 0
    loops: bool = False


def demand_of(light: Any, pixels: tuple[int, int] | None) -> Demand:
    """The demand of a graph without its weights (``without_weights``); *pixels*: the height and
    width of images, where it leaves them open."""
    nodes = list(every_node(light.graph))
    loops = any(node.op_type in LOOPS for node in nodes)
    if len(nodes) > len(light.graph.node):  # branches and bodies: which runs, and how often, depends on the data
        return Demand(None, loops=loops)
    try:
        known = infer_shapes(fixed_graph(light, 1, _sizes(light.graph.input, pixels or ())))
    except PilotfishError:
        return Demand(None)
    constants = BYTES * sum(
        _elements(node, known) or 0 for node in stored_nodes(light.graph) if node.op_type != "Constant"
    )
    return Demand(_peak(light.graph, known), constants)


def _sizes(inputs: Any, pixels: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """The shapes of inputs whose dimensions beside the batch are all known, a batch of one where it is open."""
    found = {}
    for value in inputs:
        dims = [int(d.dim_value) for d in value.type.tensor_type.shape.dim]
        left = iter(pixels)
        shape = tuple(d if d > 0 else next(left, 0) if i else 1 for i, d in enumerate(dims))
        if shape and min(shape) > 0:
            found[value.name] = shape
    return found


def _elements(node: Any, known: Mapping[str, Shape]) -> int | None:
    """How many numbers *node* returns; None where it is not known."""
    outputs = [name for name in node.output if name]
    return sum(prod(known[name]) for name in outputs) if all(name in known for name in outputs) else None


def _peak(graph: Any, known: Mapping[str, Shape]) -> int | None:
    last = {name: i for i, node in enumerate(graph.node) for name in node.input}
    last |= dict.fromkeys((value.name for value in graph.output), len(graph.node))
    held = {tensor.name for tensor in graph.initializer} | {value.name for value in graph.input}  # by others
    alive = peak = sum(prod(known.get(value.name, ())) for value in graph.input)
    for i, node in enumerate(graph.node):
        made = _elements(node, known)
        if made is None:
            return None
        alive += made
        peak = max(peak, alive)
        over = {name for name in (*node.input, *node.output) if name and last.get(name, i) == i}
        alive -= sum(prod(known.get(name, ())) for name in over - held)
    return BYTES * peak


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


class OnnxLimits:
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

    @property
    def is_bounded(self) -> bool:
        """Whether what calls take is known beforehand, so that nothing has to be watched while they run."""
        return self.demand.peak is not None and not self.demand.loops and self.demand.constants <= call_bytes()

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
    return quantity(rows, "sample")
