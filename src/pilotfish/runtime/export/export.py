"""``pilotfish export``: the cascade as one ONNX file, checked against the engine before it is written."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pilotfish.cascade import Artefact, InForce, load_artefact
from pilotfish.data import Dataset, open_data, sample_reader
from pilotfish.errors import DataError, ModelError, UnreadableSample, UsageError, needs
from pilotfish.files import atomic_path
from pilotfish.machine import cpu_count
from pilotfish.models import Model
from pilotfish.models.backends.onnx_backend import open_session
from pilotfish.models.model import BAND, F32
from pilotfish.models.onnx.onnx_metadata import write_metadata
from pilotfish.runtime.cascade import Cascade
from pilotfish.runtime.choice import read_choices
from pilotfish.runtime.engine import Engine
from pilotfish.runtime.export.compare import (
    batched_ms,
    compare,
    forced_point,
    one_by_one_ms,
    random_inputs,
    run_graph,
)
from pilotfish.runtime.export.graph import Plan, cascade_graph
from pilotfish.runtime.export.nodes import NODES
from pilotfish.runtime.export.parts import Part, read_parts, refuse_code
from pilotfish.runtime.load_stage import check_code, load_stage
from pilotfish.runtime.stage import EngineStage
from pilotfish.runtime.supply import TensorSupply
from pilotfish.text import quantity

Tell = Callable[[str, int, int], None]


@dataclasses.dataclass(frozen=True)
class ExportInput:
    """An input of the graph: float32 (N, *shape), for these stages, prepared as their preprocessing says."""

    name: str
    shape: tuple[int, ...]
    stages: tuple[str, ...]
    preprocessing: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class ExportCost:
    """Milliseconds per sample when stage *stage* answers (None: the cascade's own exits): for the graph and for the
    engine.

    The engine prepares an input only when its stage is reached; a graph needs all of them beforehand. Neither figure
    includes that.
    """

    stage: int | None
    graph_ms: float
    engine_ms: float


@dataclasses.dataclass(frozen=True)
class ExportedCascade:
    """The outcome of :func:`export`.

    samples         how many were compared with the engine, once per exit and once at the cascade's own operating point
    flips           exits that differ, all of them within *band* of their threshold
    max_difference  largest difference of a confidence where the same stage answered
    costs           one sample at a time, by the stage that answers; for a batched graph only the cascade's own exits
    """

    path: Path
    batched: bool
    bytes: int
    inputs: tuple[ExportInput, ...]
    stages: tuple[str, ...]
    samples: int
    flips: int
    band: float
    max_difference: float
    costs: tuple[ExportCost, ...]
    prepare_ms: float | None = None

    def to_json(self) -> dict[str, Any]:
        """The document of ``pilotfish export --json``."""
        return {**dataclasses.asdict(self), "path": str(self.path)}


def export(
    cascade: str | Path,
    out: str | Path,
    *,
    batched: bool = False,
    data: str | Dataset | None = None,
    samples: int = 64,
    progress: Tell | None = None,
    allow_python: Collection[str] = (),
) -> ExportedCascade:
    """Write the cascade in folder *cascade*, at the operating point in force, as the single ONNX file *out*.

    batched  for any number of samples at a time; otherwise for exactly one, with later stages in ``If`` branches
    data     samples on which the graph is compared with the engine and timed; random inputs otherwise
    samples  how many, at most
    allow_python  as for :meth:`pilotfish.Cascade.load`

    Outputs: prediction int64 (N,), confidence float32 (N,), stage int64 (N,), logits float32 (N, C) of the stage that
    answered; prediction and stage are -1 if the last stage's outputs are not finite. Inputs: one per preprocessing,
    float32 (N, C, H, W); the metadata describe each.

    UsageError for a rule or a score that has no graph, ModelError for a model without an ONNX form, or if the graph and
    the engine disagree beyond rounding.
    """
    target, tell = Path(out), progress or (lambda *_: None)
    if target.suffix != ".onnx":
        raise UsageError(f"a graph is written as .onnx, found {target.name!r}")
    path, data = Path(cascade), None if data is None else open_data(data)
    artefact = load_artefact(path)
    _refuse_what_has_no_graph(artefact)
    check_code(artefact.stages, allow_python)
    models = [load_stage(stage, path, "cpu", "onnxruntime", allow_python) for stage in artefact.stages]
    names = [stage.name for stage in artefact.stages]
    inputs, source = _inputs(names, models)
    parts = read_parts(names, models, source)
    _refuse_fixed_batches(models, names, batched)
    tensors, prepare_ms = example_tensors(models, data, samples, tell)
    feeds = {entry.name: tensors[source.index(entry.name)] for entry in inputs}
    engine = Cascade(artefact, models, read_choices(path, artefact, "cpu"))
    stages = engine.engine_stages() if batched else engine.single_stages
    check = _Check(artefact, parts, inputs, batched, stages, tensors, feeds)
    with atomic_path(target) as temporary:
        costs, flips, worst = [], 0, 0.0
        for k in range(len(stages)):
            tell("checking", k, len(stages) + 1)
            point = dataclasses.replace(artefact.in_force, point=forced_point(k, len(stages)))
            _, worst_here, cost = check(temporary, point, timed=not batched)
            worst = max(worst, worst_here)
            costs += [dataclasses.replace(cost, stage=k)] if cost else []
        tell("checking", len(stages), len(stages) + 1)
        flips, worst_here, cost = check(temporary, artefact.in_force, timed=batched)  # the one that stays
        costs += [cost] if cost else []
        tell("checking", len(stages) + 1, len(stages) + 1)
    return ExportedCascade(
        path=target,
        batched=batched,
        bytes=target.stat().st_size,
        inputs=inputs,
        stages=tuple(names),
        samples=len(tensors[0]),
        flips=flips,
        band=BAND,
        max_difference=max(worst, worst_here),
        costs=tuple(costs),
        prepare_ms=prepare_ms,
    )


@dataclasses.dataclass(frozen=True)
class _Check:
    """Writes the graph for a policy, compares it with the engine, and times both."""

    artefact: Artefact
    parts: tuple[Part, ...]
    inputs: tuple[ExportInput, ...]
    batched: bool
    stages: Sequence[EngineStage]
    tensors: Sequence[F32]
    feeds: dict[str, F32]

    def __call__(self, path: Path, in_force: InForce, timed: bool) -> tuple[int, float, ExportCost | None]:
        import onnx

        plan = Plan(self.parts, in_force.scores, in_force.point, self.batched)
        graph = cascade_graph(plan, [(entry.name, entry.shape) for entry in self.inputs])
        write_metadata(graph, **_documents(self.artefact, self.inputs, self.batched))
        onnx.save(graph, str(path))
        session = open_session(path, cpu_count())
        found = run_graph(session, self.feeds, self.batched)
        engine = Engine(self.stages, in_force).run(TensorSupply(self.tensors))
        compared = compare(found, engine, self.stages, self.tensors, in_force)
        cost = None
        if timed:
            clock = batched_ms if self.batched else one_by_one_ms
            cost = ExportCost(None, *clock(session, self.feeds, self.stages, self.tensors, in_force))
        return compared.flips, compared.max_difference, cost


def _refuse_what_has_no_graph(artefact: Artefact) -> None:
    with needs("onnx and onnxruntime", "onnx", "exporting a cascade"):
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    if not artefact.task.classes:
        raise UsageError(f"a cascade of task {artefact.task.name} cannot be exported: a graph can only answer classes")
    if artefact.rule.kind != "score":
        raise UsageError(
            f"a cascade by {artefact.rule.kind} cannot be exported; expected one whose stages compare a score: tune "
            "with --method sweep, pcee, dyce or msdnet"
        )
    for stage, score in zip(artefact.stages, artefact.scores, strict=False):
        if score.name == "max_prob" and score.scale != "log_odds":
            raise UsageError(
                f"{stage.name} answers with a class and a confidence, which a graph cannot score; record a model "
                "that returns the probabilities of all classes"
            )
        if score.name not in NODES:
            raise UsageError(f"the score {score.name} cannot be exported; tune with --score {', '.join(NODES)}")


def _refuse_fixed_batches(models: Sequence[Model], names: Sequence[str], batched: bool) -> None:
    for name, model in zip(names, models, strict=True):
        fixed: int | None = getattr(model.backend, "fixed_batch", None)
        if fixed is not None and (batched or fixed != 1):
            raise ModelError(
                f"{name} is an ONNX file for batches of exactly {fixed}; export it with a free batch size first"
            )


def _inputs(names: Sequence[str], models: Sequence[Model]) -> tuple[tuple[ExportInput, ...], list[str]]:
    """The graph's inputs, one per preprocessing and shape, and the one that each stage reads."""
    groups: dict[tuple[str, tuple[int, ...]], list[int]] = {}
    for k, (name, model) in enumerate(zip(names, models, strict=True)):
        refuse_code(name, model.backend)
        if model.input_shape is None:
            raise ModelError(f"{name} does not state the shape of its inputs, so it cannot be exported")
        groups.setdefault((model.preprocessing.of_inputs.hash, tuple(model.input_shape)), []).append(k)
    inputs, source = [], [""] * len(models)
    for (_, shape), members in groups.items():
        name = "input" if len(groups) == 1 else f"input_{members[0]}"
        chain = models[members[0]].preprocessing.of_inputs.to_json()
        inputs.append(ExportInput(name, shape, tuple(names[k] for k in members), chain))
        for k in members:
            source[k] = name
    return tuple(inputs), source


def example_tensors(
    models: Sequence[Model], data: Dataset | None, samples: int, tell: Tell
) -> tuple[list[F32], float | None]:
    """Inputs of the same samples for every stage, and the ms that preparing those of the later stages takes."""
    if data is None:
        return [random_inputs(model.input_shape or (), min(samples, 16)) for model in models], None
    read = sample_reader(data, any(model.preprocessing.decodes_itself for model in models))
    made: list[list[F32]] = [[] for _ in models]
    spent = 0.0
    for row in np.linspace(0, len(data) - 1, min(samples, len(data))).round().astype(int).tolist():
        try:
            sample = read(row)
            first = models[0].preprocessing(sample)
            start = time.perf_counter()
            later = [model.preprocessing(sample) for model in models[1:]]
            spent += time.perf_counter() - start
        except UnreadableSample:
            continue
        for held, tensor in zip(made, [first, *later], strict=True):
            held.append(tensor)
        tell("reading samples", len(made[0]), min(samples, len(data)))
    if not made[0]:
        raise DataError(f"none of the {quantity(len(data), 'sample')} of {data.spec} could be read")
    return [np.stack(held) for held in made], 1000 * spent / len(made[0])


def _documents(artefact: Artefact, inputs: Sequence[ExportInput], batched: bool) -> dict[str, Any]:
    point = artefact.operating_point
    return {
        "inputs": {
            entry.name: {"shape": list(entry.shape), "stages": list(entry.stages), "preprocessing": entry.preprocessing}
            for entry in inputs
        },
        "cascade": {
            "stages": [{"name": s.name, "weights_hash": s.weights_hash} for s in artefact.stages],
            "score": artefact.score,
            "thresholds": [str(t) for t in artefact.shown_thresholds] if point.exit_sets is None else None,
            "batched": batched,
        },
        "classes": {"names": list(artefact.stages[-1].class_names)} if artefact.stages[-1].class_names else None,
    }
