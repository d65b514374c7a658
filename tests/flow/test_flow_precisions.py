"""``build --precisions``: variants are recorded on samples that calibrated nothing, and their best chain is built."""

from __future__ import annotations

import importlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pilotfish.cascade import load_artefact
from pilotfish.data import load_data
from pilotfish.data.subset import Subset
from pilotfish.errors import DataError, RecordsError, UsageError
from pilotfish.flow.best_cascade import SingleModel
from pilotfish.flow.precision_gain import gain_notes
from pilotfish.flow.precisions import given_precisions, set_aside
from pilotfish.models.costs.timing import Timing
from pilotfish.plan import tune
from pilotfish.recording import RecordOptions
from pilotfish.records import Run
from support.process import command
from support.quick import quick
from support.runs import records

N, FEATURES, CLASSES = 400, 12, 4
MS = {"float32": 1.0, "int8": 0.3, "bfloat16": 0.5}


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("int8,bf16,fp32", ("int8", "bfloat16", "float32")),
        ("int8", ("int8", "float32")),
        (["bfloat16", " fp16 "], ("bfloat16", "float16", "float32")),
        (None, ()),
    ],
)
def test_precisions_go_by_short_and_long_names(given: Any, found: tuple[str, ...]) -> None:
    assert given_precisions(given) == found


@pytest.mark.parametrize(
    ("given", "said"),
    [("int4", "unknown dtype 'int4'"), ("fp32", "beside fp32, found none"), ("", "found none of them")],
)
def test_precisions_that_there_are_none(given: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        given_precisions(given)


def arrays(folder: Path, n: int = N, copies: int = 0) -> str:
    rng = np.random.default_rng(2)
    x = rng.standard_normal((n, FEATURES)).astype(np.float32)
    if copies:
        x[n - copies :] = x[:copies]
    weights = np.random.default_rng(0).standard_normal((FEATURES, CLASSES)).astype(np.float32)
    label = np.where(rng.random(n) < 0.97, (x @ weights).argmax(1), rng.integers(0, CLASSES, n))
    clip = np.array([f"c{i // 5}" for i in range(n)])
    np.savez(folder / "data.npz", x=x, label=label, clip=clip)
    return f"arrays:{folder}/data.npz"


@pytest.mark.parametrize(("group_by", "copies"), [(None, 0), (None, 150), ("clip", 0), ("none", 150)])
def test_samples_are_set_aside_with_their_groups_and_copies(group_by: str | None, copies: int, tmp_path: Path) -> None:
    data = load_data(arrays(tmp_path, copies=copies))
    rest, aside, said = set_aside(data, group_by)
    assert isinstance(rest, Subset)
    assert isinstance(aside, Subset)
    assert sorted([*rest.ids, *aside.ids]) == sorted(data.ids)
    assert 40 < len(aside) <= 80  # at most a fifth
    assert said == [f"{len(aside)} of 400 samples are set aside to calibrate int8 on, and neither recorded nor judged"]
    assert set_aside(data, group_by)[1].ids == aside.ids  # type: ignore[union-attr]
    inside, outside = ({data.read(int(i)).tobytes() for i in part.rows} for part in (aside, rest))  # type: ignore[union-attr]
    assert bool(inside & outside) == (group_by == "none")
    if group_by == "clip":
        assert not {int(i) // 5 for i in aside.rows} & {int(i) // 5 for i in rest.rows}  # type: ignore[union-attr]


def test_of_data_in_time_earlier_samples_calibrate_and_of_few_none(tmp_path: Path) -> None:
    data = load_data(arrays(tmp_path))
    aside = set_aside(data, None, before=200)[1]
    assert isinstance(aside, Subset)
    assert aside.rows is not None
    assert aside.rows.max() < 200
    few = Subset(data, np.arange(4))
    rest, none, said = set_aside(few, None)
    assert (rest, none) == (few, None)
    assert said[0].startswith("int8 left out: none of 4 samples can be set aside for it; name others with --calibrate")


def test_a_part_of_a_data_set_reads_files_as_the_whole_does(tmp_path: Path) -> None:
    from PIL import Image

    for i in range(3):
        (tmp_path / "a").mkdir(exist_ok=True)
        Image.new("RGB", (4, 4), (i, 0, 0)).save(tmp_path / "a" / f"{i}.png")
    whole = load_data(f"folder:{tmp_path}")
    part = Subset(whole, np.array([2, 0]))
    assert part.encoded is not None
    assert [part.encoded(i).path for i in (0, 1)] == [str(tmp_path / "a" / f"{i}.png") for i in (2, 0)]
    assert Subset(load_data(arrays(tmp_path)), np.array([1])).encoded is None


@pytest.mark.parametrize(
    ("times", "agreement", "said"),
    [
        ((1.0, 1.2), 0.99, "int8 gains nothing here: m?dtype=int8 takes 1.2 ms, m 1 ms"),
        ((1.0, 0.4), 0.71, "before m at this budget (at most 71.0% of its answers are those of float32)"),
        ((1.0, 0.4), None, "2.5x as fast as float32 here (m?dtype=int8), and no cascade with it costs less than s"),
    ],
)
def test_what_a_precision_does_not_gain(
    times: tuple[float, float], agreement: float | None, said: str, tmp_path: Path
) -> None:
    singles = [
        SingleModel("s", 0.8, 0.1, "float32"),
        SingleModel("m", 0.9, times[0], "float32"),
        SingleModel("m?dtype=int8", 0.9, times[1], "int8", agreement),
    ]
    run = Run(tmp_path)
    for one in singles:
        outputs = {"confidence": np.linspace(0, 1, 20, dtype=np.float32)}
        run.write(records(one.name, np.arange(20) < 4, outputs=outputs, costs={"macs": one.cost}, label=[0] * 20))
    sources, both = {"m?dtype=int8": "m"}, ("int8", "float32")
    plain = tune(run, ("s", "m"), max_drop=0.0)
    [note] = [one for one in gain_notes(singles, sources, plain, both) if "int8" in one]
    assert said in note
    used = tune(run, ("m?dtype=int8", "m"), max_drop=0.0)
    assert not gain_notes(singles, sources, used, both)


@pytest.fixture
def zoo(tmp_path: Path) -> dict[str, str]:
    """Names of ONNX files of one layer, the large one as the labels were made, the small one beside it."""
    graphs = pytest.importorskip("support.graphs")
    onnx, weights = graphs.onnx, np.random.default_rng(0).standard_normal((FEATURES, CLASSES)).astype(np.float32)
    noise = np.random.default_rng(1).standard_normal((FEATURES, CLASSES)).astype(np.float32)
    for name, hidden, matrix in (("small", 1, weights + 0.7 * noise), ("large", 4, weights)):
        wide = np.concatenate([np.eye(FEATURES, dtype=np.float32)] * hidden, axis=1) / hidden
        stored = {"A": wide, "B": np.concatenate([4 * matrix] * hidden)}
        nodes = [graphs.node("MatMul", ["x", "A"], ["h"]), graphs.node("MatMul", ["h", "B"], ["y"])]
        graph = onnx.helper.make_graph(
            nodes,
            "graph",
            [graphs.value("x", ["N", FEATURES])],
            [graphs.value("y", ["N", CLASSES])],
            [onnx.numpy_helper.from_array(array, key) for key, array in stored.items()],
        )
        onnx.save(onnx.helper.make_model(graph, opset_imports=graphs.OPSET, ir_version=9), tmp_path / f"{name}.onnx")
    return {name: f"onnx:{tmp_path}/{name}.onnx" for name in ("small", "large")}


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Milliseconds by precision that every timing finds, of a network of 100 parameters; may be changed."""
    quick(monkeypatch)
    found = dict(MS)

    def times(data: Any, model: Any, options: Any, seconds: float = 1.0, before: Timing | None = None) -> Timing:
        ms = found[model.preprocessing.dtype] * model.count().costs.get("params", 10) / 100
        return Timing({1: ms}, ms)

    for name in ("planned", "finished", "side_by_side"):
        monkeypatch.setattr(importlib.import_module(f"pilotfish.recording.{name}"), "measured_times", times)
    module = importlib.import_module("pilotfish.flow.quantise")
    if hasattr(module, "time_batches"):
        monkeypatch.setattr(module, "time_batches", lambda *_, **__: Timing({1: 1.0}, 1.0))
    return found


Build = Callable[..., Any]


@pytest.fixture
def built(zoo: dict[str, str], timed: dict[str, float], tmp_path: Path) -> Build:
    from pilotfish.flow import build

    data = arrays(tmp_path)

    def run(models: Any = None, out: str = "out", **more: Any) -> Any:
        given = {"max_drop": 0.05, "precisions": "int8,fp32", "runs": 1, "options": RecordOptions(batch_size=32)}
        return build(data, zoo if models is None else models, tmp_path / out, **{**given, **more})

    return run


def test_variants_are_recorded_and_the_best_chain_of_them_is_built(built: Build, tmp_path: Path) -> None:
    result = built()
    run = Run(tmp_path / "out-run")
    assert sorted(run.models()) == ["large", "large?dtype=int8", "small", "small?dtype=int8"]
    aside = set(set_aside(load_data(f"arrays:{tmp_path}/data.npz"), None)[1].ids)  # type: ignore[union-attr]
    for meta in run.metas():
        ids = run.read(meta.model).ids.to_pylist()
        assert len(ids) == N - len(aside)
        assert not aside & set(ids)
        assert meta.preprocessing is not None
        assert meta.preprocessing["dtype"] == ("int8" if meta.model.endswith("int8") else "float32")
    stages = [stage.name for stage in result.tuning.artefact.stages]
    assert stages[-1] == "large"
    assert stages[0].endswith("?dtype=int8")
    assert result.tuning.artefact.cost_key == "ms@cpu"
    agreements = {single.name: single.agreement for single in result.singles}
    assert agreements["large"] is None
    assert all(single.cost is not None for single in result.singles)
    assert 0.9 < agreements["large?dtype=int8"] < 1.01
    pair = result.float32_pair
    assert pair.stages == ("small", "large")
    assert pair.tuning.calibration.cost > result.tuning.calibration.cost
    assert ">precision</th><td>int8</td>" in result.report.read_text()
    document = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert document["precisions"] == ["int8", "float32"]
    assert {"name", "precision", "cost", "accuracy", "agreement"} <= document["variants"][0].keys()
    assert set(document["float32_pair"]["times_faster"]) == {"model_only", "end_to_end"}
    assert any("samples are set aside to calibrate int8 on" in note for note in document["notes"])

    again = built()  # nothing is recorded or quantised anew
    assert all(one.skipped for one in again.records)
    assert again.tuning.thresholds == result.tuning.thresholds


def test_the_folder_holds_its_int8_files_and_may_be_moved(built: Build, tmp_path: Path) -> None:
    from pilotfish.runtime import Cascade

    built()
    shutil.copytree(tmp_path / "out", tmp_path / "elsewhere" / "moved")
    shutil.rmtree(tmp_path / "out")
    shutil.rmtree(tmp_path / "out-run")
    kept = load_artefact(tmp_path / "elsewhere" / "moved").stages
    assert [stage.weights_file is not None for stage in kept] == ["int8" in stage.name for stage in kept]
    cascade = Cascade.load(tmp_path / "elsewhere" / "moved")
    assert all(answer.error is None for answer in cascade.predict(np.zeros((5, FEATURES), np.float32)))


def test_one_model_is_the_saver_of_itself(built: Build, zoo: dict[str, str]) -> None:
    result = built({"large": zoo["large"]})
    assert [stage.name for stage in result.tuning.artefact.stages] == ["large?dtype=int8", "large"]
    assert result.float32_pair is None
    assert any(note.startswith("no saver in float32 to compare with") for note in result.notes)


def test_where_int8_is_no_faster_float32_is_built(built: Build, timed: dict[str, float]) -> None:
    timed["int8"] = 1.4
    result = built()
    assert [stage.name for stage in result.tuning.artefact.stages] == ["small", "large"]
    assert any(note.startswith("int8 gains nothing here: ") for note in result.notes)
    assert result.float32_pair.tuning is result.tuning


def test_a_model_that_cannot_be_quantised_is_a_note(
    built: Build, zoo: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "coin.py").write_text("import numpy as np\ndef coin(batch):\n    return np.asarray(batch)[:, :4]\n")
    monkeypatch.syspath_prepend(tmp_path)
    models = {**zoo, "coin": "python:coin:coin?takes=batch&activation=none"}
    result = built(models, precisions="int8", base="large")
    assert any(note.startswith("coin?dtype=int8 left out: ") for note in result.notes)
    assert "small?dtype=int8" in [stage.name for stage in result.tuning.artefact.stages]


def test_with_a_guarantee_it_is_certified_on_a_part_of_its_own(built: Build) -> None:
    result = built(max_drop="10%", guarantee="90%")
    assert result.tuning.guarantee["confidence"] == 0.9
    assert result.tuning.split["fit"] > 0
    assert result.float32_pair.tuning.guarantee is not None


def test_other_samples_calibrate(built: Build, tmp_path: Path) -> None:
    x = np.random.default_rng(9).standard_normal((60, FEATURES)).astype(np.float32)
    np.savez(tmp_path / "other.npz", x=x)
    result = built(calibrate=f"arrays:{tmp_path}/other.npz")
    assert {one.n for one in result.records} == {N}
    with pytest.raises(DataError, match=r"400 of 400 samples are in the calibration data .* name other samples"):
        built(calibrate=f"arrays:{tmp_path}/data.npz", out="again")


@pytest.mark.parametrize(
    ("more", "error", "said"),
    [
        ({"cost": "macs"}, UsageError, "macs are the same in every precision: leave --cost out"),
        ({"cost": "usd"}, RecordsError, "no recording counts a cost 'usd'"),
        ({"precisions": "bf16", "calibrate": "digits"}, UsageError, "are for int8: give them with --precisions int8"),
        ({"models": {"a": "onnx:a.onnx?dtype=float16"}}, UsageError, "states dtype=float16, and --precisions makes"),
        ({"models": {"a": "onnx:a.onnx?decoder=pillow"}, "decoder": "pillow-draft"}, UsageError, "--decoder makes"),
    ],
)
def test_what_is_refused_before_anything_is_recorded(
    built: Build, tmp_path: Path, more: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        built(**more)
    assert not (tmp_path / "out-run").exists()


def test_the_command(zoo: dict[str, str], timed: dict[str, float], tmp_path: Path) -> None:
    models = ",".join(zoo.values())
    asked = ["--data", arrays(tmp_path), "--model", models, "--out", "c", "--max-drop", "5%", "--runs", "1"]
    done = command(tmp_path, "build", *asked, "--precisions", "int8,fp32", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["float32_pair"]["stages"] == list(zoo.values())
    assert document["tune"]["stages"][0].endswith("?dtype=int8")
    assert {"agrees", "float32"} <= set(done.stderr.split())
    assert "Beside the best float32 pair" in done.stderr
    report = command(tmp_path, "report", "c", "--out", "r.html")
    assert report.returncode == 0, report.stderr


def test_an_update_leaves_the_samples_out_that_calibrated_and_keeps_the_int8_files(
    built: Build, zoo: dict[str, str], tmp_path: Path
) -> None:
    from pilotfish.flow.update import update

    built()
    shutil.copy(tmp_path / "small.onnx", tmp_path / "next.onnx")
    new = update(
        tmp_path / "out",
        f"onnx:{tmp_path}/next.onnx",
        f"arrays:{tmp_path}/data.npz",
        tmp_path / "new",
        alias="next",
        options=RecordOptions(batch_size=32),
    )
    assert any(note.endswith("of 400 samples calibrated the int8 stages, and are left out") for note in new.notes)
    assert new.run == tmp_path / "out-run"
    kept = load_artefact(tmp_path / "new").stages
    assert [stage.weights_file is not None for stage in kept] == ["int8" in stage.name for stage in kept]


def test_with_a_decoder_savers_read_with_it_and_the_base_as_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from types import SimpleNamespace

    from pilotfish import machine
    from pilotfish.flow.precisions import Recorder, record_variants

    asked: dict[str, str] = {}

    class Noted(Recorder):
        def record(self, spec: str, alias: str, overwrite: bool = False) -> list[Any]:
            asked[alias] = spec
            return [SimpleNamespace(model=alias)]

    module = importlib.import_module("pilotfish.flow.precisions")
    recorder = Noted(load_data(arrays(tmp_path)), Run(tmp_path / "run"), RecordOptions())
    models = {"s": "timm:s", "b": "timm:b?mean=0"}
    for flags, left_out in (("avx512_bf16", []), ("avx2", ["bf16 left out: Old has no instructions for it"])):
        asked.clear()
        info = machine.processor(f"model name : Old\nflags : {flags}\n")
        monkeypatch.setattr(module, "processor", lambda info=info: info)
        found = record_variants(recorder, models, ("bfloat16", "float32"), None, "turbojpeg", "b")
        read = {"s?decoder=turbojpeg": "timm:s?decoder=turbojpeg"}
        computed = {
            "s?decoder=turbojpeg&dtype=bf16": "timm:s?decoder=turbojpeg&dtype=bfloat16",
            "b?decoder=turbojpeg&dtype=bf16": "timm:b?mean=0&decoder=turbojpeg&dtype=bfloat16",
        }
        assert asked == (read if left_out else read | computed)
        assert list(found.notes) == left_out
        assert found.sources == {name: name[0] for name in asked}
