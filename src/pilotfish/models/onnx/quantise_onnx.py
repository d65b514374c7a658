"""int8 of any ONNX graph: ranges from samples, 8-bit nodes by ONNX Runtime's tools, one file."""

from __future__ import annotations

import contextlib
import itertools
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.errors import ModelError, PilotfishError, needs, reason
from pilotfish.machine import cpu_count
from pilotfish.models.backends.onnx_backend import open_session
from pilotfish.models.onnx.int8_nodes import PRODUCTS, Int8Nodes, int8_nodes, name_nodes
from pilotfish.models.onnx.onnx_export import quiet

CALIBRATIONS = {"minmax": "MinMax", "entropy": "Entropy", "percentile": "Percentile"}
LARGEST = 2**31 - 2**20  # bytes of a protocol buffer
AT_ONCE = 2**29  # bytes of activations
PROBES = 16  # samples that rank the groups
GROUPS = 24  # of nodes that are tried in float32, each alone
Feed = Mapping[str, NDArray[Any]]
Judge = Callable[[Path], float]
Tell = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Int8Graph:
    """A graph made ready for int8.

    model    the ``onnx.ModelProto``, its constants folded and its nodes named
    nodes    what becomes int8
    ranges   of its tensors, as ONNX Runtime's tools keep them
    reduced  whether weights are kept to 7 bits
    """

    model: Any
    nodes: Int8Nodes
    ranges: Any
    reduced: bool

    def write(self, target: Path, kept: Collection[str] = (), seen: Collection[str] = ()) -> None:
        """Write the int8 graph to *target*: the nodes *kept* stay in float32, the tensors *seen* are outputs too."""
        import onnx

        made = _int8(self, frozenset(kept))
        made.graph.output.extend(onnx.ValueInfoProto(name=name) for name in seen)
        onnx.save(made, str(target))


def quantise_onnx(
    source: Path,
    target: Path,
    feeds: Iterable[Feed],
    *,
    called: str = "",
    calibration: str = "minmax",
    reduced: bool = False,
    judge: Judge | None = None,
    least: float | None = None,
    tell: Tell | None = None,
) -> tuple[str, ...]:
    """Write the ONNX model *source* in int8 to *target*; returns the names of the nodes that *least* kept in float32.

    Convolutions and matrix products with stored weights become int8, per channel, and what lies between convolutions;
    everything else keeps its numbers. Outputs of any kind will do: nothing is assumed of them.

    feeds        inputs by name, a batch each, read one by one and not kept
    called       what errors call the model; its path by default
    calibration  how the range of each tensor is found: minmax, entropy or percentile
    reduced      keep weights to 7 bits, for processors whose 8-bit products saturate
    judge        how well a file agrees with the source, 0 to 1, on other samples than *feeds*
    least        the agreement to reach by keeping in float32 what harms most

    ModelError for a graph of 2 GB or more, without anything to quantise, or that does not reach *least*.
    """
    probes: list[Feed] = []
    with tempfile.TemporaryDirectory(prefix="pilotfish-") as name, _told(called or str(source)):
        folder = Path(name)
        graph = _ready(source, folder, _noting(feeds, probes), calibration, reduced)
        graph.write(target)
        if judge is None or least is None:
            return ()
        return _keep_float32(graph, target, probes, judge, least, folder, tell or (lambda *_: None))


@contextlib.contextmanager
def _told(called: str) -> Iterator[None]:
    """Errors of the quantiser's many libraries as one of a line."""
    with needs("onnx and onnxruntime", "onnx", "quantising"):
        import onnxruntime as ort
    ort.set_default_logger_severity(4)  # its warnings are about the tools' own graphs
    try:
        with quiet():
            yield
    except ModelError as error:
        raise ModelError(f"{called} cannot be quantised: {error}") from error
    except PilotfishError:
        raise
    except Exception as error:
        raise ModelError(f"{called} cannot be quantised ({type(error).__name__}: {reason(error)})") from error
    finally:
        ort.set_default_logger_severity(2)


def _noting(feeds: Iterable[Feed], probes: list[Feed]) -> Iterator[Feed]:
    for feed in feeds:
        if len(probes) < PROBES:
            probes.append(feed)
        yield feed


def _ready(source: Path, folder: Path, feeds: Iterator[Feed], calibration: str, reduced: bool) -> Int8Graph:
    import onnx
    from onnxruntime.quantization.shape_inference import quant_pre_process

    size = source.stat().st_size + sum(other.stat().st_size for other in _others(onnx, source))
    if size > LARGEST:
        raise ModelError(f"it takes {size / 2**30:.1f} GB; a file of less than 2 GB can be quantised")
    prepared = folder / "prepared.onnx"
    quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
    model = onnx.load(str(prepared))
    name_nodes(model.graph)
    onnx.save(model, str(prepared))
    nodes = int8_nodes(model.graph)
    if not nodes.heavy:
        raise ModelError(
            "it has no convolution and no matrix product with stored weights, which are what int8 makes faster"
        )
    return Int8Graph(model, nodes, _ranges(prepared, model, nodes, feeds, calibration, folder), reduced)


def _others(onnx: Any, source: Path) -> set[Path]:
    """The files beside *source* that hold its tensors."""
    stored = onnx.load(str(source), load_external_data=False).graph.initializer
    return {source.parent / entry.value for t in stored for entry in t.external_data if entry.key == "location"}


def _ranges(prepared: Path, model: Any, nodes: Int8Nodes, feeds: Iterator[Feed], calibration: str, folder: Path) -> Any:
    """The ranges of the tensors at int8 nodes, from activations of which about half a gigabyte is in memory at once."""
    from onnxruntime.quantization import CalibrationMethod, create_calibrator

    kinds = sorted({node.op_type for node in model.graph.node if node.name in set(nodes.nodes)})
    calibrator = create_calibrator(
        prepared,
        kinds,
        augmented_model_path=str(folder / "augmented.onnx"),
        calibrate_method=getattr(CalibrationMethod, CALIBRATIONS[calibration]),
    )
    first = next(feeds)
    each = sum(getattr(found, "nbytes", 0) for found in calibrator.infer_session.run(None, dict(first)))
    some = max(1, AT_ONCE // max(1, each))  # the calibrator keeps what it collects at once
    left = itertools.chain([first], feeds)
    while piece := _Piece(left, some):
        calibrator.collect_data(piece)
    return calibrator.compute_data()


class _Piece:
    """What the calibrator draws some feeds from; false where none is left."""

    def __init__(self, feeds: Iterator[Feed], most: int) -> None:
        self.feeds = itertools.islice(feeds, most)
        self.ahead = next(self.feeds, None)

    def __bool__(self) -> bool:
        return self.ahead is not None

    def get_next(self) -> Feed | None:
        found, self.ahead = self.ahead, None
        return found if found is not None else next(self.feeds, None)


def _int8(graph: Int8Graph, kept: frozenset[str]) -> Any:
    """The ``onnx.ModelProto`` with pairs of QuantizeLinear and DequantizeLinear around what is computed in 8 bits."""
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    model = type(graph.model)()
    model.CopyFrom(graph.model)
    chosen = [name for name in graph.nodes.nodes if name not in kept]
    quantizer = QDQQuantizer(
        model,
        True,  # per channel
        graph.reduced,
        QuantType.QInt8,
        QuantType.QUInt8,
        graph.ranges,
        chosen,
        [],
        sorted({node.op_type for node in model.graph.node if node.name in set(chosen)}),
        # products may return float32 at no cost, so logits keep all their digits
        {"OpTypesToExcludeOutputQuantization": list(PRODUCTS)},
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    made = quantizer.model.model
    _read_float32(made.graph, frozenset(chosen), graph.model.graph.initializer)
    return made


def _read_float32(graph: Any, chosen: frozenset[str], stored: Any) -> None:
    """Let nodes that are not *chosen* read tensors as they are; the tools hand them what 8 bits leave. *stored*: those
    of the float32 graph."""
    makers = {name: node for node in graph.node for name in node.output}
    tensors = {f"{tensor.name}_quantized": tensor for tensor in stored}
    whole, rounded_biases = {}, {}
    for node in graph.node:
        if node.op_type != "DequantizeLinear":
            continue
        if node.input[0] in tensors:
            name = tensors[node.input[0]].name
            if node.output[0] == name:  # a bias
                rounded_biases[name] = node.output[0] = f"{name}_rounded"
            whole[node.output[0]] = name
        elif (rounded := makers.get(node.input[0])) is not None and rounded.op_type == "QuantizeLinear":
            maker = makers.get(rounded.input[0])
            if maker is None or maker.name not in chosen or maker.op_type in PRODUCTS:
                whole[node.output[0]] = rounded.input[0]
    read: set[str] = set()
    for node in graph.node:
        if node.name not in chosen and node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            node.input[:] = [whole.get(name, name) for name in node.input]
            read.update(node.input)
        elif node.name in chosen:
            node.input[:] = [rounded_biases.get(name, name) for name in node.input]
    held = {tensor.name for tensor in graph.initializer}
    graph.initializer.extend(tensor for tensor in stored if tensor.name in read - held)


def _keep_float32(
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
    """The mean relative squared error of tensors; those whose shapes depend on other numbers are left out."""
    errors = [
        float(((b - a).astype(np.float64) ** 2).mean() / max((a.astype(np.float64) ** 2).mean(), 1e-30))
        for one, other in zip(expected, found, strict=True)
        for a, b in zip(one, other, strict=True)
        if a.shape == b.shape and a.size
    ]
    return float(np.nan_to_num(np.mean(errors), nan=np.inf)) if errors else 0.0
