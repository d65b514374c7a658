"""int8 of any ONNX graph: ranges from samples, 8-bit nodes by ONNX Runtime's tools, one file."""

from __future__ import annotations

import contextlib
import itertools
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.errors import ModelError, PilotfishError, needs, reason
from pilotfish.machine import processor
from pilotfish.models.onnx.int8_agreement import Feed, Judge, Tell, keep_float32
from pilotfish.models.onnx.int8_graph import Int8Graph
from pilotfish.models.onnx.int8_nodes import Int8Nodes, int8_nodes, name_nodes
from pilotfish.models.onnx.onnx_export import quiet

CALIBRATIONS = {"minmax": "MinMax", "entropy": "Entropy", "percentile": "Percentile"}
LARGEST = 2**31 - 2**20  # bytes of a protocol buffer
AT_ONCE = 2**29  # bytes of activations
PROBES = 16  # samples that rank the groups
COUNTED = 2**14  # numbers of a tensor and sample in its histogram: counting all takes ten times as long as the network


def quantise_onnx(
    source: Path,
    target: Path,
    feeds: Iterable[Feed],
    *,
    called: str = "",
    calibration: str = "minmax",
    reduced: bool | None = None,
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
    reduced      keep weights to 7 bits, for processors whose 8-bit products saturate; None: where this one's do
    judge        how well a file agrees with the source, 0 to 1, on other samples than *feeds*
    least        the agreement to reach by keeping in float32 what harms most

    ModelError for a graph of 2 GB or more, without anything to quantise, or that does not reach *least*.
    """
    probes: list[Feed] = []
    with tempfile.TemporaryDirectory(prefix="pilotfish-") as name, _told(called or str(source)):
        folder = Path(name)
        narrow = not processor().vnni if reduced is None else reduced
        graph = _ready(source, folder, _noting(feeds, probes), calibration, narrow)
        graph.write(target)
        if judge is None or least is None:
            return ()
        return keep_float32(graph, target, probes, judge, least, folder, tell or (lambda *_: None))


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
    if hasattr(calibrator, "collector"):  # of histograms
        calibrator.collector = _thinned(calibrator)
    first = next(feeds)
    each = sum(getattr(found, "nbytes", 0) for found in calibrator.infer_session.run(None, dict(first)))
    some = max(1, AT_ONCE // max(1, each))  # the calibrator keeps what it collects at once
    left = itertools.chain([first], feeds)
    while piece := _Piece(left, some):
        calibrator.collect_data(piece)
    return calibrator.compute_data()


def _thinned(calibrator: Any) -> Any:
    """What counts a random part of the numbers in each tensor of a sample."""
    from onnxruntime.quantization.calibrate import HistogramCollector

    rng = np.random.default_rng(0)

    def some(array: NDArray[Any]) -> NDArray[Any]:
        flat = array.reshape(-1)
        return flat if flat.size <= COUNTED else flat[rng.integers(0, flat.size, COUNTED)]

    class Thinned(HistogramCollector):  # type: ignore[misc]
        def collect(self, found: dict[str, list[NDArray[Any]]]) -> None:
            super().collect({name: np.concatenate([some(one) for one in arrays]) for name, arrays in found.items()})

    names = ("method", "symmetric", "num_bins", "num_quantized_bins", "percentile", "scenario")
    return Thinned(**{name: getattr(calibrator, name) for name in names})


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
