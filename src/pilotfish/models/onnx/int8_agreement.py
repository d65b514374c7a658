"""Which nodes stay in float32, so that an int8 graph agrees with its source as much as is asked for."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.errors import ModelError
from pilotfish.machine import cpu_count
from pilotfish.models.backends.onnx_backend import open_session
from pilotfish.models.onnx.int8_graph import Int8Graph

GROUPS = 24  # of nodes that are tried in float32, each alone
Feed = Mapping[str, NDArray[Any]]
Judge = Callable[[Path], float]
Tell = Callable[[str, int, int], None]


def keep_float32(
    graph: Int8Graph, target: Path, probes: Sequence[Feed], judge: Judge, least: float, folder: Path, tell: Tell
) -> tuple[str, ...]:
    """Rewrite *target* with the fewest groups of nodes in float32 with which it agrees by *least*.

    Groups are ranked by how much nearer to float32 the heavy nodes' last tensors come when one alone is restored.
    """
    found = judge(target)
    if found >= least:
        return ()
    groups = graph.nodes.groups(GROUPS)
    plain, trial = folder / "plain.onnx", folder / "trial.onnx"
    expected = _seen(graph, plain, frozenset(graph.nodes.nodes), probes)
    errors = []
    for i, group in enumerate(groups):
        tell("ranking nodes", i, len(groups))
        errors.append(_error(expected, _seen(graph, trial, group, probes)))
    order = np.argsort(errors, kind="stable")
    low, high = 0, len(groups)  # too few, and enough: all in float32 is the source
    while high - low > 1:
        count = (low + high) // 2
        tell("keeping nodes in float32", count, len(groups))
        graph.write(trial, _members(groups, order[:count]))
        now = judge(trial)
        low, high, found = (low, count, found) if now >= least else (count, high, max(found, now))
    if high == len(groups):
        raise ModelError(
            f"no int8 form agrees with it on {least:.1%} of the samples, {found:.1%} at best; calibrate on more "
            "samples, or ask for less agreement"
        )
    kept = _members(groups, order[:high])
    graph.write(target, kept)
    return kept


def _members(groups: Sequence[tuple[str, ...]], chosen: NDArray[np.intp]) -> tuple[str, ...]:
    return tuple(name for k in sorted(chosen.tolist()) for name in groups[k])


def _seen(graph: Int8Graph, path: Path, kept: Collection[str], probes: Sequence[Feed]) -> list[list[NDArray[Any]]]:
    """The last tensors of heavy nodes for each of *probes*, with the nodes *kept* in float32."""
    own = {value.name for value in graph.model.graph.output}
    graph.write(path, kept, [name for name in graph.nodes.ends if name not in own])
    session = open_session(path, cpu_count())
    return [session.run(list(graph.nodes.ends), dict(feed)) for feed in probes]


def _error(expected: Sequence[Sequence[NDArray[Any]]], found: Sequence[Sequence[NDArray[Any]]]) -> float:
    """The mean relative squared error of tensors, 1 where shapes differ because they depend on the numbers."""
    errors = [
        float(((b - a).astype(np.float64) ** 2).mean() / max((a.astype(np.float64) ** 2).mean(), 1e-30))
        if a.shape == b.shape
        else 1.0
        for one, other in zip(expected, found, strict=True)
        for a, b in zip(one, other, strict=True)
        if a.size
    ]
    return float(np.nan_to_num(np.mean(errors), nan=np.inf)) if errors else 0.0
