"""Documents whose numbers are beyond float64, whose lists are too short, whose keys are missing or 5,000 digits long,
which hold NaN, half a surrogate pair or a thousand brackets: many ended in a traceback.

Taught: what a file says is checked where it is read, all of it; every entry is replaced here by junk of every kind, and
what is not refused must work.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from pilotfish.cascade import load_artefact, save_artefact
from pilotfish.cli.inspect_command import inspect
from pilotfish.errors import PilotfishError
from pilotfish.plan import rank_savers, tune
from pilotfish.recording import RecordOptions, record
from pilotfish.recording.parts import Parts
from pilotfish.records import Run
from pilotfish.records.parquet import META_KEY
from pilotfish.report import write_report
from pilotfish.report.bench_table import bench_section
from pilotfish.runtime import Cascade, StageRuntime, predict_sequentially
from pilotfish.runtime.choice import write_choices

JUNK = [
    *("null", "true", "0", "-1", "0.5", "1e308", "9223372036854775808", '""', '"x"', '"inf"', "[]", "{}", "[null]"),
    *('{"a": 1}', "[1, 2, 3, 4, 5, 6, 7, 8]", '"../../../etc/passwd"', '"python:os:system"', '"\\u0000"'),
]
NO_JSON_OF_OURS = [
    *("1e400", "-1e400", "NaN", "-Infinity", "9" * 400, "9" * 5000, '"\\ud800"', "[" * 60 + "]" * 60),
    *("[" * 3000 + "]" * 3000, '{"a": 1, "a": 2}'),
]
OPTIONS = RecordOptions(timing=False, batch_size=8)


def places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = (
        list(node.items()) if isinstance(node, dict) else list(enumerate(node[:2])) if isinstance(node, list) else []
    )
    yield from ([path] if path else [])
    for key, child in items:
        yield from places(child, (*path, key))


def spoiled(document: Any, path: tuple[Any, ...], junk: str | None) -> str:
    """*document* with the entry at *path* replaced by raw text; removed, or under a key of 5,000 digits, by None."""
    made = copy.deepcopy(document)
    parent = made
    for key in path[:-1]:
        parent = parent[key]
    if junk is None:
        value = parent.pop(path[-1])
        if isinstance(parent, dict) and len(str(path)) % 2:
            parent["9" * 5000] = value
        return json.dumps(made)
    parent[path[-1]] = "@here@"
    return json.dumps(made).replace('"@here@"', junk)


def sampled(document: Any, n: int, seed: int) -> list[str]:
    """Spoiled documents: *n* of all that there are, drawn with a seed."""
    draw = random.Random(seed)
    paths = list(places(document))
    return [spoiled(document, draw.choice(paths), draw.choice([*JUNK, None, None])) for _ in range(n)]


def ends_well(calls: list[Callable[[], object]]) -> bool:
    """Whether all *calls* go through; what they raise must be an error of ours, in one line of a length to be read."""
    said = None
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            for call in calls:
                call()
        except PilotfishError as error:
            said = str(error)
    assert said is None or ("\n" not in said and 0 < len(said) < 20_000)
    return said is None


@pytest.mark.parametrize("junk", NO_JSON_OF_OURS, ids=lambda junk: junk[:12])
def test_what_no_document_of_ours_holds(junk: str, runnable: Path, made: Path, refused: Any, tmp_path: Path) -> None:
    document = json.loads((runnable / "cascade.json").read_text())
    (runnable / "bench.json").write_text(f'{{"speedup": {junk}}}')
    assert "bench.json" in refused("report", runnable, "--out", tmp_path / "r.html")
    (runnable / "runtime.json").write_text(f'{{"schema": 1, "devices": {{"x": {junk}}}}}')
    assert "runtime.json" in refused("predict", runnable, made / "data.npz")
    (runnable / "cascade.json").write_text(spoiled(document, ("origin", "seed"), junk))
    assert "cascade.json" in refused("inspect", runnable)


def test_a_cascade(runnable: Path) -> None:
    document, x = json.loads((runnable / "cascade.json").read_text()), np.zeros((2, 6), np.float32)
    passed = 0
    for text in sampled(document, 110, 1):
        (runnable / "cascade.json").write_text(text)
        passed += ends_well(
            [
                lambda: load_artefact(runnable),
                lambda: inspect(runnable, as_json=True),
                lambda: inspect(runnable, as_json=False),
                lambda: save_artefact(load_artefact(runnable), runnable.with_name("again")),
                lambda: load_artefact(runnable).at(max_drop=0.5),
                lambda: Cascade.load(runnable).predict(x),
            ]
        )
    assert 10 < passed < 90


@pytest.mark.parametrize(
    "damage",
    [
        lambda d: d["stages"][0].update(class_names=["a"]),
        lambda d: d["stages"][0].update(n_classes=None, class_names=["a"]),
        lambda d: d["calibration"].update(exit_ratio=[1.0]),
        lambda d: d["operating_point"].update(exit_sets=[]),
        lambda d: d["frontier"].update(accuracy=[1e300] * len(d["frontier"]["accuracy"])),
        lambda d: d.update(stages=[]),
        lambda d: d.update(guarantee={"kind": "drop"}),
        lambda d: d.update(guarantee={"kind": ["drop"], "target": 1}),
    ],
)
def test_lists_that_are_too_short(damage: Any, runnable: Path, tmp_path: Path) -> None:
    document = json.loads((runnable / "cascade.json").read_text())
    damage(document)
    (runnable / "cascade.json").write_text(json.dumps(document))
    ends_well(
        [
            lambda: inspect(runnable, as_json=False),
            lambda: Cascade.load(runnable).predict(np.random.default_rng(0).standard_normal((20, 6), np.float32)),
            lambda: write_report(tmp_path / "r.html", artefact=load_artefact(runnable)),
        ]
    )


def test_the_metadata_of_records(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "run", tmp_path / "run")
    run = Run(tmp_path / "run")
    names = run.models()
    file = run.file(names[1])
    table, document = pq.read_table(file), json.loads(pq.read_metadata(file).metadata[META_KEY])
    texts = [*sampled(document, 60, 2), *(spoiled(document, ("costs",), f'{{"macs": {j}}}') for j in NO_JSON_OF_OURS)]
    passed = 0
    for text in texts:
        with pq.ParquetWriter(file, table.schema.remove_metadata()) as writer:
            writer.write_table(table.replace_schema_metadata(None))
            writer.add_key_value_metadata({META_KEY: text.encode()})
        passed += ends_well(
            [
                lambda: inspect(run.path, as_json=False),
                lambda: rank_savers(run, names[0]).to_json(),
                lambda: load_artefact(tune(run, [names[1], names[0]], max_drop=0.05).save(tmp_path / "c")),
            ]
        )
    assert 5 < passed < 60


def test_how_a_cascade_is_run(runnable: Path) -> None:
    write_choices(runnable, load_artefact(runnable), "cpu", [StageRuntime("onnxruntime", 8, 1, 1)] * 2, {"facts": [1]})
    document = json.loads((runnable / "runtime.json").read_text())
    for text in sampled(document, 80, 3):
        (runnable / "runtime.json").write_text(text)
        ends_well([lambda: Cascade.load(runnable).predict(np.zeros((2, 6), np.float32))])


def test_the_times_that_a_report_shows() -> None:
    times = {"stages_ms": [1.0, 2.0], "ideal_ms": 1.0, "realised_ms": 1.0, "efficiency": 0.9}
    document = {
        "machine": {"cores": 2},
        "exit_ratio": [0.5, 0.5],
        "model_only": times,
        "speedup": 2.0,
        "parts": [False],
    }
    for text in sampled(document, 200, 4):
        ends_well([lambda text=text: bench_section(json.loads(text), ["saver", "base"])])  # type: ignore[misc]


@pytest.fixture
def cut_off(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recording that was killed between its last two steps: the folder of its parts."""

    def die(self: Parts, *_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Parts, "join", die)
        with pytest.raises(KeyboardInterrupt):
            record(f"arrays:{made}/data.npz", f"onnx:{made}/small.onnx", tmp_path / "r", alias="m", options=OPTIONS)
    return tmp_path / "r" / "m.val.parts"


def test_the_plan_and_the_parts_of_a_recording(cut_off: Path, made: Path, tmp_path: Path) -> None:
    shutil.copytree(cut_off, tmp_path / "kept")
    plan = json.loads((cut_off / "plan.json").read_text())
    (part,) = [path.name for path in cut_off.glob("part-*")]
    table, whole = pq.read_table(cut_off / part), (cut_off / part).read_bytes()
    draw = random.Random(5)

    def again() -> None:
        record(f"arrays:{made}/data.npz", f"onnx:{made}/small.onnx", tmp_path / "r", alias="m", options=OPTIONS)

    for n in range(60):
        shutil.rmtree(tmp_path / "r")
        shutil.copytree(tmp_path / "kept", cut_off)
        if n % 3 == 0:
            (cut_off / "plan.json").write_text(sampled(plan, 1, n)[0])
        elif n % 3 == 1:
            failures = draw.choice([*JUNK, *NO_JSON_OF_OURS, '[{"id": 1, "reason": "x"}]', '[{"id": "1"}]'])
            pq.write_table(table.replace_schema_metadata({b"failures": failures.encode()}), cut_off / part)
        else:
            bits = bytearray(whole[: draw.choice([len(whole), draw.randrange(len(whole))])])
            for _ in range(draw.randrange(8) if bits else 0):
                bits[draw.randrange(len(bits))] ^= draw.randrange(1, 256)
            (cut_off / part).write_bytes(bits)
        ends_well([again])
    shutil.rmtree(tmp_path / "r")
    shutil.copytree(tmp_path / "kept", cut_off)
    (cut_off / part).rename(cut_off / "part-000000000000-999999999999.parquet")
    with pytest.raises(PilotfishError, match="does not hold the samples that it is named for"):
        again()


def test_the_state_of_a_run_of_one_model_at_a_time(runnable: Path, made: Path, tmp_path: Path) -> None:
    from pilotfish.data import load_data

    data, file = load_data(f"arrays:{made}/data.npz"), tmp_path / "state.npz"
    predict_sequentially(runnable, data, state=file)
    whole = dict(np.load(file))
    facts = {**json.loads(str(whole["facts"])), "errors": {"3": "x"}}
    others: list[Any] = [
        np.zeros(3),
        np.array(7),
        np.full(60, 10**6),
        np.full(60, -7),
        np.zeros((60, 2)),
        np.array("x"),
    ]
    spoilt = [{"facts": np.array(text)} for text in sampled(facts, 40, 6)]
    spoilt += [{name: other} for name in whole if name != "facts" for other in others]
    for change in spoilt:
        np.savez(file, **{**whole, **change})
        ends_well([lambda: predict_sequentially(runnable, data, state=file)])
    np.savez_compressed(file, **{**whole, "bomb": np.zeros(2**27, np.uint8)})
    with pytest.raises(PilotfishError, match="it unpacks to"):
        predict_sequentially(runnable, data, state=file)
