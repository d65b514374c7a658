"""The surface that outside scripts rely on: names, parameters, result fields, JSON keys. Extend it, don't break it."""

from __future__ import annotations

import dataclasses
import doctest
import importlib.util
import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import pilotfish
from pilotfish.cascade import Performance
from pilotfish.plan import SaverResult
from pilotfish.recording import RecordResult
from support.pairs import Pair
from support.runs import write_pair

NAMES = [
    "Analysis",
    "Answer",
    "Artefact",
    "BenchResult",
    "Cascade",
    "ChainRanking",
    "Evaluation",
    "Model",
    "PilotfishError",
    "Preprocessing",
    "Recipe",
    "Records",
    "Run",
    "RuntimeTuning",
    "SaverRanking",
    "Shortlist",
    "Trained",
    "Tuning",
    "Update",
    "__version__",
    "analyse",
    "bench",
    "build",
    "chains",
    "evaluate",
    "export",
    "export_stages",
    "import_predictions",
    "load_data",
    "load_model",
    "load_recipe",
    "open_run",
    "quantise",
    "record",
    "savers",
    "shortlist",
    "train_esn",
    "train_exits",
    "train_msdnet",
    "train_router",
    "tune",
    "tune_runtime",
    "update",
    "write_report",
]

TORCH = importlib.util.find_spec("torch") is not None
TRAINING = ("Recipe", "Trained", "load_recipe", "train_esn", "train_exits", "train_msdnet", "train_router")
HERE = [name for name in NAMES if TORCH or name not in TRAINING]  # training needs torch even to be looked at

# positional parameters, then those that are given by name, with their defaults
VERBS: dict[str, tuple[str, dict[str, Any]]] = {
    "open_run": ("path", {}),
    "record": (
        "data models run",
        {
            "alias": None,
            "split": "val",
            "batch_size": None,
            "device": "cpu",
            "workers": None,
            "store": None,
            "augment": None,
            "timing": True,
            "overwrite": False,
            "costs": None,
            "progress": None,
            "group_by": None,
            "trained_on": None,
            "task": None,
        },
    ),
    "import_predictions": (
        "file run model",
        {"split": "val", "costs": None, "format": "auto", "labels": None, "group_by": None, "task": None},
    ),
    "savers": (
        "run base",
        {
            "cost": "macs",
            "score": None,
            "split": "val",
            "holdout": 0.0,
            "seed": 0,
            "method": "sweep",
            "max_drop": 0.0,
            "guarantee": None,
            "test": "auto",
            "group_by": None,
            "metric": None,
        },
    ),
    "shortlist": (
        "base",
        {"size": "native", "cost": None, "device": None, "max_drop": 0.0, "top": 10, "per_family": 2, "table": None},
    ),
    "chains": (
        "run base",
        {
            "max_drop": None,
            "max_cost": None,
            "max_stages": 3,
            "top": 10,
            "cost": "macs",
            "score": None,
            "split": "val",
            "holdout": 0.5,
            "seed": 0,
            "group_by": None,
            "min_metric": None,
            "savers": None,
            "judge_on": "random",
            "apart": False,
            "metric": None,
        },
    ),
    "analyse": (
        "run base",
        {
            "savers": None,
            "split": "val",
            "train": None,
            "cost": "macs",
            "score": None,
            "max_drop": 0.0,
            "draws": 200,
            "seed": 0,
            "group_by": None,
            "metric": None,
        },
    ),
    "tune": (
        "run stages",
        {
            "max_drop": None,
            "max_cost": None,
            "min_metric": None,
            "min_accuracy": None,
            "method": "sweep",
            "score": None,
            "cost": "macs",
            "split": "val",
            "holdout": 0.5,
            "seed": 0,
            "guarantee": None,
            "test": "auto",
            "savers_tried": 1,
            "options": None,
            "group_by": None,
            "judge_on": "random",
            "trained_on": None,
            "allow_bad_base": False,
            "class_max_drop": None,
            "worst_class_drop": None,
            "max_latency_p95": None,
            "apart": False,
            "metric": None,
        },
    ),
    "bench": (
        "cascade data",
        {
            "exit_ratio": None,
            "runs": 5,
            "samples": 500,
            "workers": None,
            "peers": True,
            "progress": None,
            "allow_python": (),
            "seconds": None,
            "beside": None,
        },
    ),
    "evaluate": (
        "cascade data",
        {
            "run": None,
            "split": "val",
            "audit": None,
            "seed": 0,
            "group_by": None,
            "device": "cpu",
            "workers": None,
            "allow_python": (),
            "progress": None,
        },
    ),
    "tune_runtime": (
        "cascade data",
        {"device": "cpu", "backends": None, "seconds": 20.0, "progress": None, "allow_python": (), "known": ()},
    ),
    "train_exits": (
        "model data out",
        {
            "layers": (),
            "exits": 3,
            "head": "linear",
            "width": 128,
            "arguments": None,
            "recipe": None,
            "held_out": None,
            "run": None,
            "name": None,
            "seed": 0,
            "device": "cpu",
            "progress": None,
        },
    ),
    "train_msdnet": (
        "config data out",
        {
            "size": None,
            "recipe": None,
            "held_out": None,
            "run": None,
            "name": "msdnet",
            "seed": 0,
            "device": "cpu",
            "progress": None,
        },
    ),
    "train_esn": (
        "saver base data out",
        {
            "layers": (),
            "exits": 3,
            "dims": (32,),
            "attention": (1,),
            "attention_heads": 8,
            "recipe": None,
            "held_out": None,
            "run": None,
            "name": "esn",
            "seed": 0,
            "device": "cpu",
            "progress": None,
        },
    ),
    "train_router": (
        "saver base data out",
        {
            "kind": "evaluator",
            "encoder": "small:convnet",
            "arguments": None,
            "width": 64,
            "recipe": None,
            "held_out": None,
            "run": None,
            "name": "router",
            "seed": 0,
            "device": "cpu",
            "progress": None,
        },
    ),
    "export": ("cascade out", {"batched": False, "data": None, "samples": 64, "progress": None, "allow_python": ()}),
    "export_stages": ("cascade out", {"data": None, "samples": 64, "allow_python": ()}),
    "update": (
        "cascade model data out",
        {
            "stage": None,
            "alias": None,
            "run": None,
            "embed": False,
            "force": False,
            "allow_python": (),
            "allow_bad_base": False,
            "options": None,
            "progress": None,
        },
    ),
    "quantise": ("model data out", {"samples": 128, "calibration": "minmax", "min_agreement": None, "progress": None}),
    "write_report": (
        "out",
        {
            "run": None,
            "base": None,
            "stages": None,
            "cascade": None,
            "cost": None,
            "score": None,
            "split": None,
            "metric": None,
            "bench": None,
            "data": None,
        },
    ),
}

FIELDS = {
    RecordResult: "run model split n cost path failures started skipped rate notes",
    pilotfish.SaverRanking: (
        "base cost n best savers base_accuracy split score method max_drop holdout reference notes guarantee metric"
    ),
    SaverResult: (
        "saver exit_ratio threshold cost_ratio delta_cost accuracy held_out certified n base_accuracy comparable"
    ),
    pilotfish.Tuning: "artefact calibration evaluation split saves reference notes costs choices",
    pilotfish.Evaluation: (
        "verdict stages n promised found limit kind p reference notes bound needed exit_ratio_interval cost_interval "
        "cost_key ms unanswered latency_limit latency_interval"
    ),
    Performance: (
        "n value base_value drop drop_interval cost base_cost exit_ratio groups metric asymptotic classes latency_p95"
    ),
    pilotfish.Answer: "input prediction name confidence stage error",
    pilotfish.BenchResult: (
        "machine stages batch_sizes n runs forced exit_ratio model_only end_to_end speedup choices decode_ms "
        "decoded_once single peers peer_n energy parts decode_share base_decode_share notes"
    ),
    pilotfish.RuntimeTuning: "device stages path",
}


def test_the_names() -> None:
    assert pilotfish.__all__ == NAMES
    assert dir(pilotfish) == sorted(NAMES)
    for name in HERE:
        assert getattr(pilotfish, name) is not None
    with pytest.raises(AttributeError, match="module 'pilotfish' has no attribute 'tuen'"):
        _ = pilotfish.tuen


PLANNING = ("analyse", "chains", "savers", "shortlist", "tune")


@pytest.mark.parametrize("verb", [*PLANNING, "record", "import_predictions", "write_report", "bench", "evaluate"])
def test_docstrings_name_every_parameter(verb: str) -> None:
    if verb == "bench" and not TORCH:
        pytest.skip("needs torch")
    said = inspect.getdoc(getattr(pilotfish, verb)) or ""
    assert [name for name in inspect.signature(getattr(pilotfish, verb)).parameters if name not in said] == []


@pytest.mark.parametrize("verb", ["analyse", "chains", "evaluate", "savers", "tune"])
def test_examples_of_docstrings_are_true(verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parent.parent / "examples")
    example = doctest.DocTestParser().get_doctest(getattr(pilotfish, verb).__doc__, {}, verb, None, None)
    assert example.examples
    assert doctest.DocTestRunner().run(example).failed == 0


def test_a_run_is_a_folder_by_its_name_too(tmp_path: Path) -> None:
    assert pilotfish.Run(str(tmp_path)).file("m") == pilotfish.Run(tmp_path).file("m")  # type: ignore[arg-type]


@pytest.mark.parametrize("verb", VERBS)
def test_the_parameters_of(verb: str) -> None:
    if verb not in HERE:
        pytest.skip("needs torch")
    parameters = inspect.signature(getattr(pilotfish, verb)).parameters.values()
    positional = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    named = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
    assert (" ".join(positional), named) == VERBS[verb]
    assert len(positional) + len(named) == len(parameters)


@pytest.mark.parametrize("method", ["load", "predict", "set_operating_point"])
def test_a_cascade_can(method: str) -> None:
    parameters = inspect.signature(getattr(pilotfish.Cascade, method)).parameters
    expected = {
        "load": ["folder", "device", "allow_python"],
        "predict": ["self", "inputs", "workers", "save"],
        "set_operating_point": ["self", "max_drop", "max_cost", "min_accuracy", "min_metric"],
    }
    assert list(parameters) == expected[method]


@pytest.mark.parametrize("result", FIELDS, ids=lambda cls: cls.__name__)
def test_the_fields_of(result: Any) -> None:
    assert [field.name for field in dataclasses.fields(result)] == FIELDS[result].split()
    assert result.__dataclass_params__.frozen


def test_every_public_name_says_what_it_is() -> None:
    for name in HERE:
        if name != "__version__":
            assert (getattr(pilotfish, name).__doc__ or "").strip(), name


PAIR = Pair([0.9, 0.8, 0.7, 0.6], [True, True, False, True], [True, True, True, False])


def test_the_json_of_savers_and_tune(tmp_path: Path) -> None:
    write_pair(tmp_path, PAIR, saver_cost=1.0, base_cost=10.0)
    ranking = pilotfish.savers(str(tmp_path), "base").to_json()
    assert {"base", "cost", "n", "best", "savers"} <= set(ranking)
    assert {"saver", "exit_ratio", "threshold", "cost_ratio", "delta_cost"} <= set(ranking["savers"][0])
    found = pilotfish.tune(tmp_path, ["saver", "base"], max_drop=0).to_json()
    keys = "stages method score thresholds policy split calibration evaluation guarantee"
    assert set(keys.split()) <= set(found)
    assert set(found["split"]) == {"fit", "certify", "evaluation"}
    performance = {"n", "accuracy", "base_accuracy", "drop", "drop_interval", "cost", "exit_ratio", "base_cost"}
    performance |= {"metric", "value", "base_value"}
    assert performance == set(found["calibration"]) == set(found["evaluation"])
    assert sum(found["calibration"]["exit_ratio"]) == pytest.approx(1)
    swept = pilotfish.tune(tmp_path, ["saver", "base"], max_drop=0, holdout=0).to_json()
    assert swept["thresholds"] == ["-inf"]  # JSON has no infinities
    assert swept["evaluation"] is None


PLANNING = """
import sys, pilotfish
run, out = sys.argv[1:]
pilotfish.open_run(run).metas()
assert pilotfish.savers(run, "base").best == "saver"
tuning = pilotfish.tune(run, ["saver", "base"], max_drop=0, holdout=0)
tuning.save(out)
pilotfish.write_report(out + "/report.html", run=run, base="base")
pilotfish.write_report(out + "/cascade.html", cascade=out)
from pilotfish.cascade import load_artefact
load_artefact(out).at(max_cost="90%")
print(*sorted({name.split(".")[0] for name in sys.modules}))
"""
HEAVY = {"torch", "torchvision", "timm", "onnx", "onnxruntime", "openvino", "sklearn", "scipy", "transformers"}


def loaded_by(code: str, *arguments: str) -> set[str]:
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_planning_and_reporting_load_no_torch(tmp_path: Path) -> None:
    write_pair(tmp_path / "run", PAIR, saver_cost=1.0, base_cost=10.0)
    loaded = loaded_by(PLANNING, str(tmp_path / "run"), str(tmp_path / "cascade"))
    assert "pyarrow" in loaded
    assert not loaded & HEAVY


@pytest.mark.parametrize("verb", ["savers", "chains", "analyse"])
def test_a_wrong_name_of_an_option_is_said_with_its_verb(verb: str) -> None:
    with pytest.raises(TypeError, match=rf"{verb}\(\) got an unexpected keyword argument 'max_drp'"):
        getattr(pilotfish, verb)("run", base="base", max_drp=0.01)


def test_importing_is_light() -> None:
    tops = 'print(*sorted({name.split(".")[0] for name in sys.modules}))'
    loaded = loaded_by(f"import sys, pilotfish; pilotfish.__version__; {tops}")
    assert not loaded & {*HEAVY, "numpy", "pyarrow", "matplotlib", "PIL"}
    rooms = ["data", "models", "recording", "runtime", "report", "flow", "cli.main", "api"]
    loaded = loaded_by(f"import sys, {', '.join(f'pilotfish.{room}' for room in rooms)}; {tops}")
    assert not loaded & {*HEAVY, "matplotlib"}
