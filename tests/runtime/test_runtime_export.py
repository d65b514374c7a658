"""``export``: one ONNX file that answers as the engine does, alone and in batches."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

import pilotfish  # noqa: E402
from pilotfish.cascade import inside as inside_of  # noqa: E402
from pilotfish.cascade import load_artefact, save_artefact  # noqa: E402
from pilotfish.errors import ModelError, PilotfishError, UsageError  # noqa: E402
from pilotfish.models import Preprocessing  # noqa: E402
from pilotfish.models.model import BAND  # noqa: E402
from pilotfish.records import Outputs, from_logits  # noqa: E402
from pilotfish.runtime.export.nodes import (  # noqa: E402
    NODES,
    Nodes,
    inside,
    reduce_logits,
    score_value,
    shown,
)
from pilotfish.scores import SCORES as KINDS  # noqa: E402
from pilotfish.scores import ExitScore, compute, plain_score, to_shown  # noqa: E402
from support.process import command  # noqa: E402

N, CLASSES, SIDES = 240, 6, (4, 6, 8)


def classifier(path: Path, side: int, weights: np.ndarray, opset: int = 18, batch: object = "n") -> Path:
    """Linear over side x side RGB pixels."""
    nodes = [helper.make_node("Flatten", ["x"], ["flat"]), helper.make_node("MatMul", ["flat", "W"], ["y"])]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, side, side])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, CLASSES])
    graph = helper.make_graph(nodes, "graph", [x], [y], [numpy_helper.from_array(weights, "W")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9), path)
    return path


@dataclass(frozen=True)
class Pool:
    """Three models, each better than the one before, over the same small pictures."""

    folder: Path
    stages: tuple[str, ...]
    images: np.ndarray
    data: str

    def cascade(self, *stages: int, **options: object) -> Path:
        """A tuned cascade of these models."""
        names = [self.stages[k] for k in stages]
        tuning = pilotfish.tune(self.folder / "run", names, max_drop=0.05, holdout=0, **options)  # type: ignore[arg-type]
        return tuning.save(self.folder / f"cascade{'-'.join(map(str, stages))}")


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    folder = tmp_path_factory.mktemp("pool")
    rng = np.random.default_rng(0)
    truth = rng.standard_normal((3 * 64, CLASSES)).astype(np.float32)
    images = rng.integers(0, 256, (N, 8, 8, 3), dtype=np.uint8)
    stages = []
    for side, noise, opset in zip(SIDES, (1.2, 0.8, 0.2), (18, 13, 20), strict=True):
        own = truth.reshape(3, 8, 8, CLASSES)[:, :side, :side].reshape(-1, CLASSES)
        weights = own + rng.standard_normal(own.shape).astype(np.float32) * noise
        stages.append(f"onnx:{classifier(folder / f'm{side}.onnx', side, weights, opset)}")
    best = folder / "first"
    np.savez(folder / "plain.npz", x=images)
    pilotfish.record(f"arrays:{folder}/plain.npz", stages[2], best, timing=False)
    answers = pilotfish.open_run(best).read(stages[2]).outputs.prediction
    label = np.where(rng.random(N) < 0.9, answers, rng.integers(0, CLASSES, N))
    np.savez(folder / "data.npz", x=images, label=label)
    pilotfish.record(f"arrays:{folder}/data.npz", stages, folder / "run", timing=False)
    return Pool(folder, tuple(stages), images, f"arrays:{folder}/data.npz")


def feeds(session: ort.InferenceSession, images: np.ndarray) -> dict[str, np.ndarray]:
    """The graph's inputs, made from nothing but what the file says of itself."""
    said = json.loads(session.get_modelmeta().custom_metadata_map["pilotfish.inputs"])
    assert sorted(said) == sorted(i.name for i in session.get_inputs())
    chains = {name: Preprocessing.from_json(entry["preprocessing"]) for name, entry in said.items()}
    return {name: np.stack([chain(image) for image in images]) for name, chain in chains.items()}


@pytest.mark.parametrize("stages", [(0, 2), (0, 1, 2)])
@pytest.mark.parametrize("score", ["max_prob", "margin", "entropy", "energy", "temperature"])
def test_the_graph_answers_as_the_cascade_does(stages: tuple[int, ...], score: str, pool: Pool, tmp_path: Path) -> None:
    folder = pool.cascade(*stages, score=score)
    expected = pilotfish.Cascade.load(folder).predict(pool.images)
    taken = {answer.stage for answer in expected}
    assert taken == set(range(len(stages))) or score == "energy", "the case says something only where samples part"
    one = pilotfish.export(folder, tmp_path / "one.onnx", data=pool.data)
    many = pilotfish.export(folder, tmp_path / "many.onnx", batched=True, data=pool.data, samples=N)
    assert (one.batched, many.batched, one.samples) == (False, True, 64)
    assert many.flips <= 1  # a threshold is some sample's own score, and rounding decides about that one
    session = ort.InferenceSession(str(one.path))
    fed = feeds(session, pool.images)
    assert len(fed) == len(stages)
    singly = [session.run(None, {k: v[i : i + 1] for k, v in fed.items()}) for i in range(N)]
    found = [np.concatenate(column) for column in zip(*singly, strict=True)]
    session = ort.InferenceSession(str(many.path))
    for size in (1, 7, N):
        parts = [session.run(None, {k: v[i : i + size] for k, v in fed.items()}) for i in range(0, N, size)]
        for a, b in zip(found, (np.concatenate(column) for column in zip(*parts, strict=True)), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
    prediction, confidence, stage, logits = found
    same = stage == [answer.stage for answer in expected]
    assert (~same).sum() == many.flips
    assert (prediction == [answer.prediction for answer in expected])[same].all()
    np.testing.assert_allclose(confidence[same], np.array([a.confidence for a in expected])[same], rtol=1e-5)
    assert (logits.argmax(1) == prediction).all()


@pytest.mark.parametrize("method", ["pcee", "dyce"])
def test_exit_sets_and_other_methods(method: str, pool: Pool, tmp_path: Path) -> None:
    folder = pool.cascade(0, 1, 2, method=method)
    found = pilotfish.export(folder, tmp_path / "graph.onnx", batched=True, data=pool.data, samples=N)
    assert (found.samples, found.flips) == (N, 0)
    assert found.band == BAND  # one band for all that runs one model twice


def test_what_it_costs_is_told_by_the_stage_that_answers(pool: Pool, tmp_path: Path) -> None:
    found = pilotfish.export(pool.cascade(0, 2), tmp_path / "graph.onnx")
    assert [cost.stage for cost in found.costs] == [0, 1]
    assert all(cost.graph_ms > 0 and cost.engine_ms > 0 for cost in found.costs)
    assert found.bytes == found.path.stat().st_size
    assert found.prepare_ms is None  # nothing was read


def test_models_of_one_preprocessing_share_an_input(pool: Pool, tmp_path: Path) -> None:
    weights = np.random.default_rng(5).standard_normal((3 * 64, CLASSES)).astype(np.float32)
    other = f"onnx:{classifier(tmp_path / 'other.onnx', 8, weights)}"
    pilotfish.record(pool.data, [other, pool.stages[2]], tmp_path / "run", timing=False, costs={})
    folder = pilotfish.tune(tmp_path / "run", [other, pool.stages[2]], max_drop=0.05).save(tmp_path / "cascade")
    found = pilotfish.export(folder, tmp_path / "graph.onnx")
    assert [(i.name, i.shape, len(i.stages)) for i in found.inputs] == [("input", (3, 8, 8), 2)]


def test_outputs_that_are_not_finite_answer_nothing(pool: Pool, tmp_path: Path) -> None:
    weights = np.full((3 * 64, CLASSES), np.inf, np.float32)
    name = f"onnx:{classifier(tmp_path / 'broken.onnx', 8, weights)}"
    folder = pool.cascade(0, 2)
    broken = load_artefact(folder)
    stages = (broken.stages[0], type(broken.stages[1])(name="broken", spec=name))
    save_artefact(dataclasses.replace(broken, stages=stages), tmp_path / "cascade")
    for batched in (False, True):
        path = pilotfish.export(
            tmp_path / "cascade", tmp_path / f"{batched}.onnx", batched=batched, data=pool.data
        ).path
        session = ort.InferenceSession(str(path))
        fed = feeds(session, pool.images)
        singly = [session.run(None, {k: v[i : i + 1] for k, v in fed.items()}) for i in range(N)]
        prediction, confidence, stage, _ = (np.concatenate(column) for column in zip(*singly, strict=True))
        unanswered = stage != 0
        assert 0 < unanswered.sum() < N
        assert (prediction[unanswered] == -1).all()
        assert (stage[unanswered] == -1).all()
        assert np.isnan(confidence[unanswered]).all()
        assert not np.isnan(confidence[~unanswered]).any()


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"method": "agreement"}, UsageError, "by agreement cannot be exported; .* --method sweep, pcee"),
        ({"score": "learned_right"}, UsageError, "the score learned_right cannot be exported; tune with --score max_"),
    ],
)
def test_cascades_that_have_no_graph(
    options: dict[str, str], error: type[PilotfishError], said: str, pool: Pool, tmp_path: Path
) -> None:
    folder = pool.cascade(0, 1, 2, **options)
    with pytest.raises(error, match=said):
        pilotfish.export(folder, tmp_path / "graph.onnx")
    assert not (tmp_path / "graph.onnx").exists()


def test_models_that_have_no_graph(pool: Pool, tmp_path: Path) -> None:
    weights = np.random.default_rng(5).standard_normal((3 * 64, CLASSES)).astype(np.float32)
    fixed = f"onnx:{classifier(tmp_path / 'fixed.onnx', 8, weights, batch=4)}"
    pilotfish.record(pool.data, [fixed, pool.stages[2]], tmp_path / "run", timing=False)
    folder = pilotfish.tune(tmp_path / "run", [fixed, pool.stages[2]], max_drop=0.05).save(tmp_path / "cascade")
    with pytest.raises(ModelError, match="for batches of exactly 4; export it with a free batch size first"):
        pilotfish.export(folder, tmp_path / "graph.onnx")
    with pytest.raises(UsageError, match=r"a graph is written as .onnx, found 'graph.pb'"):
        pilotfish.export(folder, tmp_path / "graph.pb")


def test_the_command(pool: Pool, tmp_path: Path) -> None:
    folder = pool.cascade(0, 2)
    done = command(tmp_path, "export", str(folder), "--out", "graph.onnx", "--data", pool.data, "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["path"] == "graph.onnx"
    assert [i["name"] for i in document["inputs"]] == ["input_0", "input_1"]
    assert "every input must be prepared beforehand" in done.stderr


def test_a_file_for_each_stage(pool: Pool, tmp_path: Path) -> None:
    done = command(tmp_path, "export", str(pool.cascade(0, 2)), "--out", "stages", "--by-stage", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert [(s["file"], s["continues"]) for s in document["stages"]] == [
        ("stage1.onnx", False),
        ("stage2.onnx", False),
    ]
    assert (tmp_path / "stages" / "stages.json").is_file()
    wrong = command(tmp_path, "export", str(pool.cascade(0, 2)), "--out", "stages", "--by-stage", "--batched")
    assert (wrong.returncode, wrong.stdout) == (1, "")


# scores as nodes, against the functions that planning uses

LOGITS = arrays(
    np.float32,
    st.tuples(st.integers(1, 6), st.integers(2, 14)),
    elements=st.one_of(
        st.floats(-30, 30, width=32), st.floats(-2000, 2000, width=32), st.sampled_from([0.0, 1.0, np.nan, np.inf])
    ),
)


def evaluated(write: object, *given: np.ndarray) -> list[np.ndarray]:
    """Outputs of the nodes that *write* adds for the inputs ``in0``, …"""
    n = Nodes("")
    names = write(n, *(f"in{i}" for i in range(len(given))))  # type: ignore[operator]
    kinds = {np.dtype(np.float32): TensorProto.FLOAT, np.dtype(np.float64): TensorProto.DOUBLE}
    kinds[np.dtype(bool)] = TensorProto.BOOL
    inputs = [helper.make_tensor_value_info(f"in{i}", kinds[x.dtype], x.shape) for i, x in enumerate(given)]
    outputs = [onnx.ValueInfoProto(name=name) for name in names]
    model = helper.make_model(n.graph(inputs, outputs), opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(onnx.shape_inference.infer_shapes(model).SerializeToString(), options)
    found: list[np.ndarray] = session.run(None, {f"in{i}": x for i, x in enumerate(given)})
    return found


@given(LOGITS)
def test_scores_of_the_graph_are_those_of_the_records(logits: np.ndarray) -> None:
    outputs = from_logits(logits, top_k=10)
    usable = ~np.isnan(outputs.log_odds)
    assume((np.abs(outputs.log_sum_exp) > 1e-4).any())  # else they pass for probabilities, which have no energy
    scores = [_score(name, outputs) for name in NODES]

    def write(n: Nodes, z: str) -> list[str]:
        said = reduce_logits(n, z)
        values = [score_value(n, said, score) for score in scores]
        return [said.finite, said.prediction, *values, *map(lambda v, s: shown(n, v, s.scale), values, scores)]

    finite, prediction, *values = evaluated(write, logits)
    assert finite.tolist() == usable.tolist()
    assert (prediction == outputs.prediction)[usable].all()
    for score, ours, read in zip(scores, values[: len(scores)], values[len(scores) :], strict=True):
        theirs = compute(score, outputs).values
        np.testing.assert_allclose(ours[usable], theirs[usable], rtol=1e-6, atol=1e-6, err_msg=score.name)
        with np.errstate(over="ignore"):
            expected = to_shown(score.scale, theirs).astype(np.float32)
        np.testing.assert_allclose(read[usable], expected[usable], rtol=1e-5, atol=1e-6, err_msg=score.name)


def _score(name: str, outputs: Outputs) -> ExitScore:
    if name == "temperature":
        return ExitScore(KINDS[name], "log_odds", {"temperature": np.array([1.7])}, 10)
    if name == "energy":
        return ExitScore(KINDS[name], "identity")
    return plain_score(KINDS[name], outputs)


@given(
    arrays(np.float64, st.integers(1, 8), elements=st.sampled_from([-2.0, -0.5, 0.0, 0.1, 0.5, 2.0, 1e300])),
    st.lists(st.sampled_from([-np.inf, -0.5, 0.0, 0.1, 0.4, 2.0, np.inf]), min_size=1, max_size=5, unique=True),
)
def test_exit_sets_of_the_graph(values: np.ndarray, bounds: list[float]) -> None:
    finite = np.arange(len(values)) % 3 != 2
    rising = tuple(sorted(bounds))
    [found] = evaluated(lambda n, v, f: [inside(n, v, f, rising)], values, finite)
    assert found.tolist() == inside_of(np.where(finite, values, np.nan), rising).tolist()
