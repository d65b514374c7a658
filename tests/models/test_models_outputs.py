"""Probabilities are told from logits, and the output that is meant from others: ONNX, torch modules, callables."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections import OrderedDict, namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
torch = pytest.importorskip("torch")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from pilotfish.data import Dataset, open_data  # noqa: E402
from pilotfish.errors import ModelError, RecordsError  # noqa: E402
from pilotfish.models import Model, Preprocessing, load_model  # noqa: E402
from pilotfish.models.backends.torch_backend import torch_model  # noqa: E402
from pilotfish.models.names import python_model  # noqa: E402
from pilotfish.models.outputs.settle import settle  # noqa: E402
from pilotfish.recording import RecordOptions, record  # noqa: E402
from pilotfish.records import Run, from_logits  # noqa: E402
from support.errors import assert_one_line  # noqa: E402

N, D, C = 120, 8, 5
RNG = np.random.default_rng(0)
X = RNG.standard_normal((N, D)).astype(np.float32)
W = RNG.standard_normal((D, C)).astype(np.float32) * 20  # logits of magnitude 60 and more
Z = X @ W
TENSOR = Preprocessing(kind="tensor", size=None, resize=None, mean=(), std=())
QUIET = RecordOptions(timing=False)


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def sigmoid(z: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return 1 / (1 + np.exp(-z))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    path = tmp_path_factory.mktemp("data") / "data.npz"
    np.savez(path, x=X, label=Z.argmax(axis=1))
    return open_data(f"arrays:{path}")


@pytest.fixture
def two(tmp_path: Path) -> Dataset:
    """The same samples, of two classes."""
    np.savez(tmp_path / "two.npz", x=X, label=(Z[:, 0] > 0).astype(np.int64))
    return open_data(f"arrays:{tmp_path / 'two.npz'}")


def linear(path: Path, *steps: Any, outputs: Any = None, w: np.ndarray = W, opset: int = 17, ml: bool = False) -> Path:
    """An ONNX file: x @ w → ``z``, then *steps* (nodes). outputs: (name, type, shape); the last step's by default."""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["z"]), *steps]
    outputs = outputs or [(nodes[-1].output[0], TensorProto.FLOAT, ["N", w.shape[1]])]
    made = [
        helper.make_tensor_value_info(name, kind, shape)
        if isinstance(kind, int)
        else helper.make_value_info(name, kind)
        for name, kind, shape in outputs
    ]
    given = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", D])]
    graph = helper.make_graph(nodes, "g", given, made, [numpy_helper.from_array(w, "w")])
    domains = [helper.make_opsetid("", opset), *([helper.make_opsetid("ai.onnx.ml", 1)] if ml else [])]
    onnx.save(helper.make_model(graph, opset_imports=domains, ir_version=8), path)
    return path


def node(kind: str, source: str, target: str, **attributes: Any) -> Any:
    return helper.make_node(kind, [source], [target], **attributes)


class Linear(torch.nn.Module):
    """x @ w, and what *after* makes of it."""

    def __init__(self, after: Callable[[Any], Any] = lambda z: z, w: np.ndarray = W) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(D, w.shape[1], bias=False)
        self.layer.weight.data = torch.from_numpy(w.T.copy())
        self.after = after

    def forward(self, x: Any) -> Any:
        return self.after(self.layer(x))


NAMES = (f"outputs_model_{i}" for i in itertools.count())


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], str]:
    """The name of a model that ``python:`` finds: a callable, a torch module or a Model."""
    import sys
    import types

    def register(model: Any) -> str:
        module = types.ModuleType(next(NAMES))
        module.build = lambda: model  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, module.__name__, module)
        return f"python:{module.__name__}:build"

    monkeypatch.setattr(python_model, "_code_hash", lambda spec, found: spec.name)
    monkeypatch.setattr(python_model, "doubts", lambda found: ())  # on what these functions use: named elsewhere
    return register


def read(name: str, data: Dataset) -> Model:
    """The model as a recording reads it, and as a cascade loads it by the name that the records keep: the same."""
    model = load_model(name, settle=functools.partial(settle, data=data))
    again = load_model(model.spec if model.spec.startswith(name) else name)
    assert np.array_equal(model.run(X), again.run(X))
    return model


def order(logits: np.ndarray) -> np.ndarray:
    return np.argsort(from_logits(logits).log_odds, kind="stable")


# what is read, and what it is worth: (the steps in ONNX, in torch, in numpy)
FORMS: dict[str, tuple[Any, Any, Any]] = {
    "softmax": ([node("Softmax", "z", "p", axis=-1)], lambda z: z.softmax(1), softmax),
    "log_softmax": (
        [node("LogSoftmax", "z", "p", axis=1)],
        lambda z: torch.nn.functional.log_softmax(z, dim=-1),
        lambda z: np.log(np.maximum(softmax(z.astype(np.float64)), 1e-300)),
    ),
    "sigmoid": ([node("Sigmoid", "z", "p")], torch.sigmoid, lambda z: sigmoid(z.astype(np.float64))),
}


def model_name(form: str, ending: str, tmp_path: Path, named: Callable[[Any], str], w: np.ndarray = W) -> str:
    steps, module, function = FORMS[ending]
    if form == "onnx":
        return f"onnx:{linear(tmp_path / 'net.onnx', *steps, w=w)}"
    if form == "torch":
        return named(Linear(module, w))
    if form == "torch-onnx":
        return named(torch_model("mine", Linear(module, w), TENSOR, (D,), "cpu"))
    return named(lambda batch: function(batch @ w))


@pytest.mark.parametrize("form", ["onnx", "torch", "torch-onnx", "python"])
@pytest.mark.parametrize("ending", ["softmax", "log_softmax", "sigmoid"])
def test_an_activation_is_seen_and_its_probabilities_are_kept(
    form: str, ending: str, tmp_path: Path, named: Callable[[Any], str], data: Dataset
) -> None:
    small = W / 20  # nothing saturates: probabilities can be compared
    z = X @ small
    model = read(model_name(form, ending, tmp_path, named, small), data)
    p = {"softmax": softmax, "log_softmax": softmax, "sigmoid": sigmoid}[ending](z)
    expected = p / p.sum(axis=1, keepdims=True)
    found = model.run(X)
    assert (found.dtype.kind, found.shape) == ("f", (N, C))
    np.testing.assert_allclose(softmax(found), expected, atol=2e-5)
    assert np.array_equal(found.argmax(axis=1), z.argmax(axis=1))
    assert sum("?activation=none" in note for note in model.notes) == 1
    assert ("activation=" in model.spec) == (ending != "log_softmax")  # log p are logits: nothing is changed


@pytest.mark.parametrize("form", ["onnx", "torch", "torch-onnx"])
@pytest.mark.parametrize("ending", ["softmax", "log_softmax"])
def test_a_saturated_softmax_keeps_the_order_of_its_logits(
    form: str, ending: str, tmp_path: Path, named: Callable[[Any], str], data: Dataset
) -> None:
    model = read(model_name(form, ending, tmp_path, named), data)
    plain = Linear()(torch.from_numpy(X)).detach().numpy() if form == "torch" else None
    if plain is None:
        plain = load_model(f"onnx:{linear(tmp_path / 'plain.onnx')}").run(X)
    assert (softmax(plain.astype(np.float32)).max(axis=1) == 1).mean() > 0.3
    found = model.run(X)
    if ending == "softmax":
        np.testing.assert_allclose(found, plain, rtol=1e-5, atol=1e-4)
        if form != "torch-onnx":  # two exports may differ in the last bit
            assert np.array_equal(order(found), order(plain))
    assert np.array_equal(found.argmax(axis=1), plain.argmax(axis=1))
    assert len(np.unique(from_logits(found).log_odds)) == N


@pytest.mark.parametrize("form", ["onnx", "torch", "torch-onnx"])
def test_a_saturated_sigmoid_keeps_its_prediction(
    form: str, tmp_path: Path, named: Callable[[Any], str], data: Dataset
) -> None:
    model = read(model_name(form, "sigmoid", tmp_path, named), data)
    found, z = model.run(X), Z.astype(np.float64)
    assert (sigmoid(Z.astype(np.float32)) == 1).sum(axis=1).max() > 1  # more than one class at p = 1
    assert np.array_equal(found.argmax(axis=1), z.argmax(axis=1))
    np.testing.assert_allclose(np.maximum(found, -80), np.maximum(-np.logaddexp(0, -z), -80), rtol=1e-4, atol=1e-34)


ONE = W[:, :1] / 20
COLUMNS: dict[str, tuple[Any, Any, Any]] = {
    "a logit": ([node("Identity", "z", "y")], lambda z: z, lambda z: z),
    "a logit without its axis": ([], lambda z: z[:, 0], lambda z: z[:, 0]),
    "a probability": ([node("Sigmoid", "z", "y")], torch.sigmoid, sigmoid),
}


@pytest.mark.parametrize("form", ["onnx", "torch", "python"])
@pytest.mark.parametrize("column", list(COLUMNS))
def test_one_column_is_two_classes(
    form: str, column: str, tmp_path: Path, named: Callable[[Any], str], two: Dataset
) -> None:
    steps, module, function = COLUMNS[column]
    if form == "onnx":
        flat = column.endswith("axis")
        last = [helper.make_node("Squeeze", ["z", "axes"], ["y"])] if flat else steps
        path = linear(
            tmp_path / "net.onnx", *last, outputs=[("y", TensorProto.FLOAT, ["N"] if flat else ["N", 1])], w=ONE
        )
        if flat:
            whole = onnx.load(path)
            whole.graph.initializer.append(numpy_helper.from_array(np.array([1]), "axes"))
            onnx.save(whole, path)
        name = f"onnx:{path}"
    else:
        name = named(Linear(module, ONE) if form == "torch" else lambda batch: function(batch @ ONE))
    model = read(name, two)
    z = (X @ ONE)[:, 0]
    np.testing.assert_allclose(model.run(X), np.stack([0 * z, z], axis=1), atol=1e-4)
    assert model.n_classes == 2
    assert any("column" in note for note in model.notes)


@pytest.mark.parametrize(
    "steps",
    [
        [node("Softmax", "z", "a", axis=1), node("Identity", "a", "p")],
        [
            node("Softmax", "z", "a", axis=1),
            node("Cast", "a", "b", to=TensorProto.DOUBLE),
            node("Cast", "b", "p", to=1),
        ],
        [node("LogSoftmax", "z", "a", axis=1), node("Exp", "a", "p")],
        [node("Softmax", "z", "a", axis=1), node("Flatten", "a", "p", axis=1)],
    ],
    ids=["identity", "cast", "exp of log", "flatten"],
)
def test_a_softmax_behind_steps_that_change_nothing_is_read_before_it(
    steps: list[Any], tmp_path: Path, data: Dataset
) -> None:
    model = read(f"onnx:{linear(tmp_path / 'net.onnx', *steps)}", data)
    assert np.array_equal(model.run(X), load_model(f"onnx:{linear(tmp_path / 'z.onnx')}").run(X))


def test_a_softmax_over_feature_maps_is_read_before_it(tmp_path: Path, data: Dataset) -> None:
    path = tmp_path / "net.onnx"
    steps = [
        helper.make_node("Unsqueeze", ["z", "axes"], ["maps"]),
        node("Softmax", "maps", "p", axis=1),
    ]
    linear(path, *steps, outputs=[("p", TensorProto.FLOAT, ["N", C, 1, 1])])
    whole = onnx.load(path)
    whole.graph.initializer.append(numpy_helper.from_array(np.array([2, 3]), "axes"))
    onnx.save(whole, path)
    np.testing.assert_allclose(read(f"onnx:{path}", data).run(X), Z, rtol=1e-4, atol=1e-3)


def test_a_softmax_over_the_batch_is_none(tmp_path: Path, data: Dataset) -> None:
    model = read(f"onnx:{linear(tmp_path / 'net.onnx', node('Softmax', 'z', 'p', axis=0), w=W / 20)}", data)
    assert "activation=softmax" not in model.spec


# (outputs of an ONNX file, the one that is meant)
Z_OUT, E_OUT = ("logits", TensorProto.FLOAT, ["N", C]), ("embedding", TensorProto.FLOAT, ["N", 8])
TANH, LABEL = node("Tanh", "x", "embedding"), node("ArgMax", "z", "label", axis=1, keepdims=0)
SEVERAL: dict[str, tuple[list[Any], list[Any], str]] = {
    "embedding first": ([TANH, node("Identity", "z", "logits")], [E_OUT, Z_OUT], "logits"),
    "embedding first, names that say nothing": (
        [node("Tanh", "x", "a"), node("Identity", "z", "b")],
        [("a", TensorProto.FLOAT, ["N", 8]), ("b", TensorProto.FLOAT, ["N", C])],
        "b",
    ),
    "label first": (
        [LABEL, node("Softmax", "z", "probabilities", axis=1)],
        [("label", TensorProto.INT64, ["N"]), ("probabilities", TensorProto.FLOAT, ["N", C])],
        "probabilities",
    ),
    "zipmap": (
        [
            LABEL,
            node("Softmax", "z", "p", axis=1),
            node("ZipMap", "p", "output_probability", domain="ai.onnx.ml", classlabels_int64s=list(range(C))),
        ],
        [
            ("label", TensorProto.INT64, ["N"]),
            (
                "output_probability",
                helper.make_sequence_type_proto(
                    helper.make_map_type_proto(TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
                ),
                None,
            ),
        ],
        "output_probability",
    ),
    "auxiliary heads": (
        [helper.make_node("MatMul", ["x", "w"], ["aux_logits1"]), node("Identity", "z", "logits")],
        [("aux_logits1", TensorProto.FLOAT, ["N", C]), Z_OUT],
        "logits",
    ),
    "logits and their probabilities": (
        [node("Softmax", "z", "probabilities", axis=1), node("Identity", "z", "logits")],
        [("probabilities", TensorProto.FLOAT, ["N", C]), Z_OUT],
        "logits",
    ),
}


@pytest.mark.parametrize("case", list(SEVERAL))
def test_of_several_onnx_outputs_the_one_of_the_classes_is_taken_and_named(
    case: str, tmp_path: Path, data: Dataset
) -> None:
    steps, outputs, meant = SEVERAL[case]
    model = read(f"onnx:{linear(tmp_path / 'net.onnx', *steps, outputs=outputs, ml=case == 'zipmap')}", data)
    np.testing.assert_allclose(model.run(X), Z, rtol=1e-4, atol=1e-3)
    assert f"output={meant}" in model.spec
    assert any("several outputs" in note and meant in note for note in model.notes)
    assert model.n_classes == C
    assert model.count().costs == {"macs": D * C, "params": D * C}  # of what is read


def test_the_class_names_of_a_zipmap_are_the_models(tmp_path: Path, data: Dataset) -> None:
    names = ["ant", "bee", "cat", "dog", "elk"]
    kind = helper.make_sequence_type_proto(
        helper.make_map_type_proto(TensorProto.STRING, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
    )
    steps = [
        node("Softmax", "z", "p", axis=1),
        node("ZipMap", "p", "y", domain="ai.onnx.ml", classlabels_strings=names),
    ]
    path = linear(tmp_path / "net.onnx", *steps, outputs=[("y", kind, None)], ml=True)
    model = read(f"onnx:{path}", data)
    assert model.class_names == tuple(names)
    np.testing.assert_allclose(model.run(X), Z, rtol=1e-4, atol=1e-3)


Answer = namedtuple("Answer", ["features", "scores"])


@dataclasses.dataclass
class Said:
    loss: Any
    hidden: Any
    logits: Any


class ModelOutput(OrderedDict):  # type: ignore[type-arg]
    """As transformers has it: keys that are attributes, None left out of the keys."""

    def __init__(self, **given: Any) -> None:
        super().__init__((key, value) for key, value in given.items() if value is not None)
        self.__dict__.update(given)


class Bare:
    """An object that has logits and is nothing else."""

    def __init__(self, logits: Any) -> None:
        self.logits = logits


CONTAINERS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "tuple": (lambda z: (z[:, :3], z), "1"),
    "list": (lambda z: [z, z[:, :3]], "0"),
    "dictionary": (lambda z: {"pooled": z[:, :2], "scores": z}, "scores"),
    "named tuple": (lambda z: Answer(z[:, :3], z), "scores"),
    "dataclass": (lambda z: Said(None, z[:, :3], z), "logits"),
    "ModelOutput": (lambda z: ModelOutput(loss=None, logits=z, hidden_states=(z, z)), "logits"),
    "object": (Bare, "logits"),
}


@pytest.mark.parametrize("form", ["torch", "python"])
@pytest.mark.parametrize("container", list(CONTAINERS))
def test_containers_are_read_and_the_place_is_part_of_the_name(
    container: str, form: str, named: Callable[[Any], str], data: Dataset
) -> None:
    make, place = CONTAINERS[container]
    model = read(named(Linear(make) if form == "torch" else lambda batch: make(batch @ W)), data)
    np.testing.assert_allclose(model.run(X), Z, rtol=1e-4, atol=1e-3)
    assert model.spec.endswith(f"?output={place}")


TENSORS: dict[str, Callable[[np.ndarray], Any]] = {
    "bfloat16": lambda z: torch.from_numpy(z).to(torch.bfloat16),
    "float16": lambda z: torch.from_numpy(z).half(),
    "with a gradient": lambda z: torch.from_numpy(z).requires_grad_(),
    "on a device": lambda z: torch.from_numpy(z).to("cuda" if torch.cuda.is_available() else "cpu"),
    "nested lists": lambda z: z.tolist(),
    "a list of rows": lambda z: list(z),
    "float64": lambda z: z.astype(np.float64),
}


@pytest.mark.parametrize("kind", list(TENSORS))
def test_tensors_of_any_kind_are_brought_to_the_host(kind: str, named: Callable[[Any], str], data: Dataset) -> None:
    model = read(named(lambda batch: TENSORS[kind](batch @ W)), data)
    found = model.run(X)
    assert found.shape == (N, C)
    np.testing.assert_allclose(found, Z, rtol=1e-2, atol=1e-2)
    assert not model.notes


@pytest.mark.parametrize("kind", ["bfloat16", "float16"])
def test_probabilities_of_few_bits_are_seen(kind: str, named: Callable[[Any], str], data: Dataset) -> None:
    model = read(named(lambda batch: TENSORS[kind](softmax(batch @ W / 20))), data)
    assert "activation=softmax" in model.spec
    np.testing.assert_allclose(softmax(model.run(X)), softmax(Z / 20), atol=2e-2)


AMBIGUOUS: dict[str, Callable[[Any], Any]] = {
    "tuple": lambda z: (z, -z),
    "dictionary": lambda z: {"a": z, "b": -z},
    "named tuple": lambda z: Answer(z, -z)._replace(),
}


@pytest.mark.parametrize("container", ["tuple", "dictionary"])
def test_several_candidates_are_listed_and_output_chooses(
    container: str, named: Callable[[Any], str], data: Dataset
) -> None:
    name = named(lambda batch: AMBIGUOUS[container](batch @ W))
    first, second = ("0", "1") if container == "tuple" else ("a", "b")
    with pytest.raises(ModelError) as caught:
        read(name, data)
    assert_one_line(caught.value, f"{first} float32 (N, 5)", f"{second} float32 (N, 5)", "?output=")
    np.testing.assert_allclose(read(f"{name}?output={second}", data).run(X), -Z, rtol=1e-4, atol=1e-3)
    with pytest.raises(ModelError, match="there are"):
        read(f"{name}?output=elsewhere", data)


def test_several_onnx_candidates_are_listed_and_output_chooses(tmp_path: Path, data: Dataset) -> None:
    steps = [node("Identity", "z", "a"), node("Neg", "z", "b")]
    outputs = [(name, TensorProto.FLOAT, ["N", C]) for name in "ab"]
    name = f"onnx:{linear(tmp_path / 'net.onnx', *steps, outputs=outputs)}"
    with pytest.raises(ModelError) as caught:
        read(name, data)
    assert_one_line(caught.value, "a float32 (N, 5)", "b float32 (N, 5)", "?output=a")
    np.testing.assert_allclose(read(f"{name}?output=b", data).run(X), -Z, rtol=1e-4, atol=1e-3)
    with pytest.raises(ModelError, match="no output 'c'"):
        load_model(f"{name}?output=c").run(X)


def test_two_outputs_whose_name_and_width_disagree_are_asked_about(named: Callable[[Any], str], data: Dataset) -> None:
    """The data have five classes: a wide output called logits and one of five columns may both be meant."""
    with pytest.raises(ModelError, match="several outputs"):
        read(named(lambda batch: {"logits": np.tile(batch @ W, 2), "other": batch @ W}), data)


@pytest.mark.parametrize("form", ["onnx", "torch", "python", "python floats"])
def test_class_numbers_alone_are_refused(form: str, tmp_path: Path, named: Callable[[Any], str], data: Dataset) -> None:
    if form == "onnx":
        path = linear(tmp_path / "net.onnx", LABEL, outputs=[("label", TensorProto.INT64, ["N"])])
        name = f"onnx:{path}"
    elif form == "torch":
        name = named(Linear(lambda z: z.argmax(1)))
    else:
        kind = np.float64 if form.endswith("floats") else np.int64
        name = named(lambda batch: (batch @ W).argmax(axis=1).astype(kind))
    with pytest.raises(ModelError) as caught:
        read(name, data)
    assert_one_line(caught.value, "class numbers", "pilotfish import")


@pytest.mark.parametrize("form", ["onnx", "torch", "python"])
def test_what_the_name_states_settles_it(form: str, tmp_path: Path, named: Callable[[Any], str], data: Dataset) -> None:
    small = W / 20
    name = model_name(form, "softmax", tmp_path, named, small)
    plain = read(f"{name}?activation=none", data)
    np.testing.assert_allclose(plain.run(X), softmax(X @ small), atol=1e-5)
    assert not plain.notes
    stated = read(f"{name}?activation=softmax", data)
    np.testing.assert_allclose(softmax(stated.run(X)), softmax(X @ small), atol=1e-5)
    with pytest.raises(ModelError, match="unknown activation 'soft'"):
        load_model(f"{name}?activation=soft")


@pytest.mark.parametrize("form", ["onnx", "torch", "python"])
@pytest.mark.parametrize("activation", ["softmax", "sigmoid", "log_softmax"])
def test_samples_that_contradict_the_name_are_named(
    form: str, activation: str, tmp_path: Path, named: Callable[[Any], str], data: Dataset
) -> None:
    FORMS_PLAIN = {
        "onnx": f"onnx:{linear(tmp_path / 'net.onnx')}",
        "torch": named(Linear()),
        "python": named(lambda b: b @ W),
    }
    with pytest.raises(ModelError) as caught:
        read(f"{FORMS_PLAIN[form]}?activation={activation}", data)
    assert_one_line(caught.value, f"activation={activation}", "sum to", "state what the model returns")


@pytest.mark.parametrize("form", ["onnx", "torch", "python"])
def test_logits_are_left_alone(form: str, tmp_path: Path, named: Callable[[Any], str], data: Dataset) -> None:
    name = {
        "onnx": f"onnx:{linear(tmp_path / 'net.onnx')}",
        "torch": named(Linear()),
        "python": named(lambda b: b @ W),
    }[form]
    model = read(name, data)
    assert (model.spec, model.notes) == (name, ())


def test_few_samples_are_said(named: Callable[[Any], str], tmp_path: Path) -> None:
    np.savez(tmp_path / "few.npz", x=X[:9], label=Z[:9].argmax(axis=1))
    model = load_model(
        named(lambda batch: softmax(batch @ W / 20)),
        settle=functools.partial(settle, data=open_data(f"arrays:{tmp_path / 'few.npz'}")),
    )
    assert any("9 samples, which are few" in note for note in model.notes)


def test_outputs_that_never_change_are_no_probabilities(named: Callable[[Any], str], data: Dataset) -> None:
    model = read(named(lambda batch: np.zeros((len(batch), C), np.float32)), data)
    assert "activation" not in model.spec
    assert any("same for all 32 samples" in note for note in model.notes)


def test_attention_inside_is_not_what_a_module_ends_in(named: Callable[[Any], str], data: Dataset) -> None:
    def attend(z: Any) -> Any:
        return z * z.softmax(1)

    model = read(named(Linear(attend)), data)
    assert (model.notes, "activation" in model.spec) == ((), False)


def test_records_keep_what_was_seen_and_others_are_not_overwritten(tmp_path: Path, data: Dataset) -> None:
    name, run = f"onnx:{linear(tmp_path / 'net.onnx', *FORMS['softmax'][0])}", tmp_path / "run"
    [first] = record(data, name, run, alias="net", options=QUIET)
    assert any("softmax" in note for note in first.notes)
    meta = Run(run).read("net", "val").meta
    assert meta.spec == f"{name}?activation=softmax"
    [again] = record(data, name, run, alias="net", options=QUIET)
    assert again.skipped
    with pytest.raises(RecordsError, match="records of other outputs"):
        record(data, f"{name}?activation=none", run, alias="net", options=QUIET)


def test_probabilities_that_are_none_cost_their_row_alone(
    tmp_path: Path, named: Callable[[Any], str], data: Dataset
) -> None:
    def broken(batch: np.ndarray) -> np.ndarray:
        p = softmax(batch @ W / 20)
        p[(batch == X[7]).all(axis=1), 0] = -0.5
        return p

    [result] = record(data, f"{named(broken)}?activation=softmax", tmp_path / "run", options=QUIET)
    assert [failure.id for failure in result.failures] == [data.ids[7]]


def test_records_that_are_there_cost_a_callable_no_call(
    tmp_path: Path, named: Callable[[Any], str], data: Dataset
) -> None:
    calls = []

    def model(batch: np.ndarray) -> np.ndarray:
        calls.append(len(batch))
        return softmax(batch @ W / 20)

    name = named(model)
    for _ in range(2):
        [result] = record(data, name, tmp_path / "run", options=QUIET)
        assert any("softmax" in note for note in result.notes)
        seen, calls[:] = len(calls), []
    assert (result.skipped, seen) == (True, 0)


@pytest.mark.parametrize("form", ["onnx", "torch"])
def test_a_column_beside_other_class_numbers_is_a_confidence(
    form: str, tmp_path: Path, named: Callable[[Any], str], two: Dataset
) -> None:
    """(prediction, confidence of it) is no probability of class 1."""
    w = np.concatenate([ONE, -ONE], axis=1)
    if form == "onnx":
        steps = [
            node("ArgMax", "z", "label", axis=1, keepdims=0),
            node("Softmax", "z", "p", axis=1),
            node("ReduceMax", "p", "confidence", axes=[1], keepdims=0),
        ]
        outputs = [("label", TensorProto.INT64, ["N"]), ("confidence", TensorProto.FLOAT, ["N"])]
        name = f"onnx:{linear(tmp_path / 'net.onnx', *steps, outputs=outputs, w=w)}"
    else:
        name = named(Linear(lambda z: (z.argmax(1), z.softmax(1).amax(1)), w))
    with pytest.raises(ModelError) as caught:
        read(name, two)
    assert_one_line(caught.value, "not that of class 1", "pilotfish import")


@pytest.mark.parametrize("form", ["onnx", "torch", "python"])
def test_one_column_for_many_classes_is_refused(
    form: str, tmp_path: Path, named: Callable[[Any], str], data: Dataset
) -> None:
    steps = [node("Identity", "z", "y")]
    name = {
        "onnx": lambda: f"onnx:{linear(tmp_path / 'net.onnx', *steps, w=ONE)}",
        "torch": lambda: named(Linear(w=ONE)),
        "python": lambda: named(lambda batch: batch @ ONE),
    }[form]()
    with pytest.raises(ModelError) as caught:
        read(name, data)
    assert_one_line(caught.value, "one column for 5 classes")


@pytest.mark.parametrize("form", ["onnx", "torch", "python"])
def test_class_numbers_of_another_order_are_said(
    form: str, tmp_path: Path, named: Callable[[Any], str], data: Dataset
) -> None:
    """Classes 1 to C, say, whose columns are numbered from 0."""
    if form == "onnx":
        path = tmp_path / "net.onnx"
        steps = [
            node("ArgMax", "z", "best", axis=1, keepdims=0),
            helper.make_node("Add", ["best", "one"], ["label"]),
            node("Identity", "z", "scores"),
        ]
        outputs = [("label", TensorProto.INT64, ["N"]), ("scores", TensorProto.FLOAT, ["N", C])]
        whole = onnx.load(linear(path, *steps, outputs=outputs))
        whole.graph.initializer.append(numpy_helper.from_array(np.array(1), "one"))
        onnx.save(whole, path)
        name = f"onnx:{path}"
    elif form == "torch":
        name = named(Linear(lambda z: (z.argmax(1) + 1, z)))
    else:
        name = named(lambda batch: {"label": (batch @ W).argmax(axis=1) + 1, "scores": batch @ W})
    assert sum("are not the largest columns" in note for note in read(name, data).notes) == 1


@pytest.mark.parametrize("ending", ["softmax", "log_softmax", "sigmoid"])
def test_what_is_reduced_on_a_device_is_of_the_same_logits(
    ending: str, tmp_path: Path, named: Callable[[Any], str], data: Dataset
) -> None:
    backend = read(model_name("torch", ending, tmp_path, named), data).backend
    found, expected = backend.reduce(X, 3), from_logits(backend.step(X)[0], top_k=3)  # type: ignore[attr-defined]
    assert np.array_equal(found.prediction, expected.prediction)
    np.testing.assert_allclose(found.log_odds, expected.log_odds, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("form", ["onnx", "torch"])
@pytest.mark.parametrize(
    ("ending", "stated"), [("softmax", "sigmoid"), ("sigmoid", "softmax"), ("log_softmax", "softmax")]
)
def test_an_ending_that_contradicts_the_name_is_named(
    form: str, ending: str, stated: str, tmp_path: Path, named: Callable[[Any], str], data: Dataset
) -> None:
    with pytest.raises(ModelError) as caught:
        read(f"{model_name(form, ending, tmp_path, named)}?activation={stated}", data)
    assert_one_line(caught.value, f"activation={stated} is stated", f"write activation={ending}")


@pytest.mark.parametrize("form", ["onnx", "torch", "python"])
def test_the_best_scores_alone_are_refused(
    form: str, tmp_path: Path, named: Callable[[Any], str], data: Dataset
) -> None:
    """TopK: columns are ranks and no classes."""
    if form == "onnx":
        steps = [helper.make_node("TopK", ["z", "k"], ["values", "indices"], axis=1)]
        outputs = [("values", TensorProto.FLOAT, ["N", C]), ("indices", TensorProto.INT64, ["N", C])]
        whole = onnx.load(linear(tmp_path / "net.onnx", *steps, outputs=outputs))
        whole.graph.initializer.append(numpy_helper.from_array(np.array([C]), "k"))
        onnx.save(whole, tmp_path / "net.onnx")
        name = f"onnx:{tmp_path / 'net.onnx'}"
    elif form == "torch":
        name = named(Linear(lambda z: z.topk(C)))
    else:
        name = named(lambda b: {"scores": -np.sort(-(b @ W), axis=1), "labels": np.argsort(-(b @ W), axis=1)})
    with pytest.raises(ModelError) as caught:
        read(name, data)
    assert_one_line(caught.value, "sorted scores", "in the order of the classes")


@pytest.mark.parametrize("total", [100, 255, 7])
def test_percentages_and_votes_are_said(total: int, named: Callable[[Any], str], data: Dataset) -> None:
    name = named(lambda batch: total * softmax(batch @ W / 20))
    [note] = read(name, data).notes
    assert f"all sum to {total}" in note
    assert not read(f"{name}?activation=none", data).notes


@pytest.mark.parametrize("form", ["onnx", "torch", "python"])
def test_a_model_that_answers_nan_alone_is_refused_by_name(
    form: str, tmp_path: Path, named: Callable[[Any], str], data: Dataset
) -> None:
    broken = np.full_like(W, np.nan)
    name = {
        "onnx": lambda: f"onnx:{linear(tmp_path / 'net.onnx', w=broken)}",
        "torch": lambda: named(Linear(w=broken)),
        "python": lambda: named(lambda batch: batch @ broken),
    }[form]()
    with pytest.raises(RecordsError) as caught:
        record(data, name, tmp_path / "run", options=QUIET)
    assert_one_line(caught.value, "not finite")


def test_labels_may_be_the_numbers_of_a_zipmap(tmp_path: Path) -> None:
    """Labels 1 to C beside a model whose classes are numbered 1 to C, or any others that cannot be places."""
    kind = helper.make_sequence_type_proto(
        helper.make_map_type_proto(TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
    )
    for numbers in ([1, 2, 3, 4, 5], [10, 20, 30, 40, 50], [0, 2, 4, 6, 8]):
        steps = [
            node("Softmax", "z", "p", axis=1),
            node("ZipMap", "p", "probability", domain="ai.onnx.ml", classlabels_int64s=numbers),
        ]
        path = linear(tmp_path / "zip.onnx", *steps, outputs=[("probability", kind, None)], ml=True)
        np.savez(tmp_path / "own.npz", x=X, label=np.array(numbers)[Z.argmax(axis=1)])
        run = tmp_path / f"run{numbers[0]}{numbers[1]}"
        [result] = record(f"arrays:{tmp_path / 'own.npz'}", f"onnx:{path}", run, options=QUIET)
        found = Run(run).read(result.model)
        assert np.array_equal(found.label, found.outputs.prediction)
        assert any("numbers by which" in note for note in result.notes)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("names", "{0: 'ant', 1: 'bee', 2: 'cat', 3: 'dog', 4: 'eel'}"),
        ("class_names", '["ant", "bee", "cat", "dog", "eel"]'),
        ("id2label", '{"0": "ant", "1": "bee", "2": "cat", "3": "dog", "4": "eel"}'),
        ("names", "{0: 'ant'}"),
        ("classes", "5"),
        ("labels", "__import__('os').abort()"),
        ("labels", "[" * 100_000),
    ],
)
def test_class_names_that_other_exporters_write_are_read(key: str, value: str, tmp_path: Path) -> None:
    path = linear(tmp_path / "net.onnx")
    whole = onnx.load(path)
    whole.metadata_props.add(key=key, value=value)
    onnx.save(whole, path)
    expected = ("ant", "bee", "cat", "dog", "eel") if "eel" in value else None
    assert load_model(f"onnx:{path}").class_names == expected
