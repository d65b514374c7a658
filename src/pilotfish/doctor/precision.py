"""What int8 and bfloat16 gain on this processor: two small networks with fresh weights, timed on one core.

It runs apart (:mod:`pilotfish.doctor.apart`): a library that does not fit the processor ends its process.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pilotfish.doctor.apart import Report

CONVOLUTIONS = (  # channels in and out, size of the kernel, stride
    *((3, 32, 3, 2), (32, 64, 3, 2), (64, 128, 3, 1), (128, 128, 1, 1)),
    *((128, 128, 3, 2), (128, 256, 3, 1), (256, 256, 1, 1)),
)
PRODUCTS = ((384, 1536), (1536, 384), (384, 1536), (1536, 384))
INPUTS = ((1, 3, 128, 128), (96, 384))
SCALE = 6 / 255  # of activations in int8: they are about as wide as a standard normal
SECONDS, LEAST_ROUNDS, MOST_ROUNDS = 1.2, 5, 60
PAYS = 1.15  # a gain that is more than noise

LIBRARIES = ("onnx", "onnxruntime", "openvino", "torch")  # what runners are made of

Call = Callable[[Any], Any]


@dataclass(frozen=True)
class Precision:
    """A precision as it runs here.

    dtype  float32, int8 or bfloat16
    ms     milliseconds of one core for an input through both networks
    gain   float32's milliseconds / these
    by     the library that ran it
    """

    dtype: str
    ms: float
    gain: float
    by: str


def runners(there: Sequence[str], bf16: bool) -> list[str]:
    """What can be timed, as "dtype library", float32 first.

    there  those of LIBRARIES that are there
    bf16   whether the processor may have the instructions
    """
    found = []
    if onnx := {"onnx", "onnxruntime"} <= {*there}:
        found += ["float32 onnxruntime", "int8 onnxruntime"]
    if bf16 and onnx and "openvino" in there:
        return [*found, "bfloat16 openvino"]
    if bf16 and "torch" in there:
        return [*(found or ["float32 torch"]), "bfloat16 torch"]
    return found


def precisions(ms: dict[str, float]) -> list[Precision]:
    """The milliseconds of runners, by name, beside float32's; nothing where that was not measured."""
    base = next((took for name, took in ms.items() if name.startswith("float32")), None)
    return [] if base is None else [Precision(n.split()[0], took, base / took, n.split()[1]) for n, took in ms.items()]


def measure(names: Sequence[str], report: Report) -> None:
    """Report the milliseconds of the runners *names*, medians of rounds in which each has its turn."""
    import numpy as np

    rng = np.random.default_rng(0)
    inputs = [rng.standard_normal(shape, dtype=np.float32) for shape in INPUTS]
    calls: list[tuple[str, int, Call]] = []
    for name in names:
        report(name)
        dtype, by = name.split(" ")
        for k, call in enumerate(PREPARE[by](dtype)):
            call(inputs[k])
            calls.append((name, k, call))
    times: dict[tuple[str, int], list[float]] = {(name, k): [] for name, k, _ in calls}
    fine = time.get_clock_info("process_time").resolution < 1e-5  # Windows counts in steps of 16 ms
    clock = time.process_time if fine else time.perf_counter  # what others compute meanwhile is not counted
    begun, rounds = time.perf_counter(), 0
    while rounds < LEAST_ROUNDS or (rounds < MOST_ROUNDS and time.perf_counter() < begun + SECONDS):
        for name, k, call in calls:
            start = clock()
            call(inputs[k])
            times[name, k].append(clock() - start)
        rounds += 1
    for name in names:
        report(name, 1000 * sum(statistics.median(times[name, k]) for k in range(len(INPUTS))))


def _onnxruntime(dtype: str) -> list[Call]:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    sessions = [
        ort.InferenceSession(graph(k, dtype == "int8"), options, providers=["CPUExecutionProvider"]) for k in (0, 1)
    ]
    return [lambda batch, run=session.run: run(None, {"x": batch}) for session in sessions]  # type: ignore[misc]


def _openvino(dtype: str) -> list[Call]:
    import openvino

    asked = {"INFERENCE_PRECISION_HINT": "bf16", "INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1}
    core = openvino.Core()
    compiled = [core.compile_model(core.read_model(graph(k, False), b""), "CPU", asked) for k in (0, 1)]
    got = compiled[0].get_property("INFERENCE_PRECISION_HINT").get_type_name()
    if got != "bf16":
        raise RuntimeError(f"OpenVINO computes in {got} in its place on this processor")
    return list(compiled)


def _torch(dtype: str) -> list[Call]:
    import torch
    from torch import nn

    torch.set_num_threads(1)
    relu = nn.ReLU()
    images = [nn.Conv2d(i, o, size, stride, size // 2, bias=False) for i, o, size, stride in CONVOLUTIONS]
    tokens = [nn.Linear(i, o, bias=False) for i, o in PRODUCTS]
    networks = [nn.Sequential(*(part for layer in layers for part in (layer, relu))) for layers in (images, tokens)]
    kind = getattr(torch, dtype)

    def call(network: Any) -> Call:
        module = network.eval().to(kind)

        def run(batch: Any) -> Any:
            with torch.inference_mode():
                return module(torch.from_numpy(batch).to(kind)).float().numpy()

        return run

    return [call(network) for network in networks]


PREPARE: dict[str, Callable[[str], list[Call]]] = {
    "onnxruntime": _onnxruntime,
    "openvino": _openvino,
    "torch": _torch,
}


def graph(which: int, int8: bool) -> bytes:
    """The ONNX file of a network, 0 of convolutions, 1 of matrix products, with a ReLU after each. int8: quantised as
    ``quantise`` does it: 8 bits unsigned for activations and signed for weights, with a scale per channel."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(which)
    nodes: list[Any] = []
    held: list[Any] = []

    def keep(name: str, values: Any) -> str:
        held.append(numpy_helper.from_array(values, name))
        return name

    def node(kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def narrowed(name: str, zero: int) -> str:
        """An activation in 8 bits and back."""
        if not int8:
            return name
        kept = [keep(f"{name}_scale", np.float32(SCALE * (2 if zero else 1))), keep(f"{name}_zero", np.uint8(zero))]
        return node("DequantizeLinear", [node("QuantizeLinear", [name, *kept], f"{name}_q"), *kept], f"{name}_dq")

    def weights(name: str, shape: tuple[int, ...], fan_in: int, axis: int) -> str:
        values = rng.standard_normal(shape, dtype=np.float32) * np.float32((2 / fan_in) ** 0.5)
        if not int8:
            return keep(name, values)
        scale = np.abs(values).max(axis=tuple(k for k in range(len(shape)) if k != axis)) / np.float32(127)
        along = scale.reshape([-1 if k == axis else 1 for k in range(len(shape))])
        kept = [keep(f"{name}_q", np.rint(values / along).astype(np.int8)), keep(f"{name}_scale", scale)]
        return node("DequantizeLinear", [*kept, keep(f"{name}_zero", np.zeros(len(scale), np.int8))], name, axis=axis)

    last = narrowed("x", 128)
    if which == 0:
        for k, (i, o, size, stride) in enumerate(CONVOLUTIONS):
            kernel = weights(f"w{k}", (o, i, size, size), i * size * size, 0)
            shape = {"kernel_shape": [size] * 2, "strides": [stride] * 2, "pads": [size // 2] * 4}
            last = narrowed(node("Relu", [node("Conv", [last, kernel], f"c{k}", **shape)], f"r{k}"), 0)
    else:
        for k, (i, o) in enumerate(PRODUCTS):
            product = node("MatMul", [last, weights(f"w{k}", (i, o), i, 1)], f"c{k}")
            last = narrowed(node("Relu", [product], f"r{k}"), 0)
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, INPUTS[which])
    returned = helper.make_tensor_value_info(last, TensorProto.FLOAT, None)
    made = helper.make_graph(nodes, "doctor", [given], [returned], held)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())
