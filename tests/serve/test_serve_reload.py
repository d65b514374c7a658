"""A cascade folder that changes while it is served: nothing is lost, and no answer is half of another cascade."""

from __future__ import annotations

import asyncio
import importlib
import json
import shutil
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import pilotfish.serve.reload as reload
from pilotfish.data import load_data
from pilotfish.plan import tune
from pilotfish.recording import RecordOptions, record
from pilotfish.records import Run
from pilotfish.runtime import Cascade
from pilotfish.serve import ServeOptions, Server
from pilotfish.serve.hosted import Hosted
from pilotfish.serve.served import Caller, Entry
from support.pair_module import MODULE
from support.server import ALLOWED, LONG, Serving, serving

OTHER = "other_chain"
BOTH = (*ALLOWED, *(f"{OTHER}:{stage}" for stage in ("saver", "middle", "base")))
CLIENTS = 4
PNG = {"Content-Type": "image/png"}


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders are looked at often."""
    monkeypatch.setattr(reload, "EVERY", 0.02)


@pytest.fixture
def folder(cascade_folder: Path, tmp_path: Path) -> Path:
    """A copy that may be changed."""
    return Path(shutil.copytree(cascade_folder, tmp_path / "cascade"))


@pytest.fixture(scope="module")
def other(cascade_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cascade of three other models."""
    place = tmp_path_factory.mktemp("other")
    changed = MODULE.replace("default_rng(0)", "default_rng(9)")
    middle = "\n\ndef middle(batch):\n    return batch.reshape(len(batch), -1) @ (W + V)\n"
    described = "\nmiddle.preprocessing, middle.weights_hash = base.preprocessing, 'm' * 64\n"
    (place / f"{OTHER}.py").write_text(changed + middle + described)
    sys.path.insert(0, str(place))
    stages = [f"python:{name}" for name in BOTH[len(ALLOWED) :]]
    data = load_data(f"arrays:{cascade_folder.parent / 'data.npz'}")
    record(data, stages, Run(place / "run"), options=RecordOptions(timing=False, batch_size=16, workers=1))
    return tune(Run(place / "run"), stages, max_drop=0.5, holdout=0, allow_bad_base=True).save(place / "cascade")


def said_by(folder: Path, photos: list[bytes]) -> list[tuple[Any, int]]:
    answers = Cascade.load(folder, allow_python=BOTH).predict(list(photos))
    return [(answer.prediction, int(answer.stage or 0)) for answer in answers]


def copy_over(source: Path, folder: Path) -> None:
    """As a deployment does: written beside it, then moved."""
    for file in sorted(source.iterdir()):
        if file.is_file():
            shutil.copy(file, folder / "new.tmp")
            (folder / "new.tmp").replace(folder / file.name)


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def under_load(running: Serving, photos: list[bytes], change: Callable[[], None]) -> list[tuple[int, str, Any]]:
    """(photo, operating point, answer) of everything that was asked while *change* ran; all of it was answered."""
    ended = threading.Event()

    def client(first: int) -> list[tuple[int, str, Any]]:
        found, i = [], first
        while not ended.is_set():
            i = (i + 1) % len(photos)
            response = running.ask("POST", "/predict", photos[i], PNG)
            assert response.status == 200, response.body
            found.append((i, response.json["operating_point"], response.json["answers"][0]))
        return found

    with ThreadPoolExecutor(CLIENTS) as pool:
        clients = [pool.submit(client, 10 * k) for k in range(CLIENTS)]
        try:
            change()
        finally:
            ended.set()
        return [one for each in clients for one in each.result()]


def test_nothing_is_lost_while_a_folder_changes(
    folder: Path, cascade_folder: Path, other: Path, photos: list[bytes]
) -> None:
    says = {"odd": said_by(cascade_folder, photos), "even": said_by(other, photos)}
    assert says["odd"] != says["even"]
    with serving({"pair": folder}, allow_python=BOTH) as running:
        hosted = running.server.hosted()

        def change() -> None:
            for number, source in enumerate([other, cascade_folder, other], 2):
                copy_over(source, folder)
                wait_for(lambda number=number: hosted.point.id == str(number))  # type: ignore[misc]
            time.sleep(0.05)

        answers = under_load(running, photos, change)
    assert {point for _, point, _ in answers} == {"1", "2", "3", "4"}
    for photo, point, answer in answers:
        expected = says["odd" if int(point) % 2 else "even"][photo]
        assert (answer["prediction"], answer["stage"], answer["error"]) == (*expected, None)


def test_a_request_that_a_change_falls_into_is_answered_by_one_cascade(
    folder: Path, other: Path, photos: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = said_by(other, photos)
    with serving({"pair": folder}, allow_python=BOTH, reload=False) as running:
        hosted = running.server.hosted()
        engine, submit, submitted = hosted.engine, hosted.engine.submit, []

        def slow(item: Any, *rest: Any, **named: Any) -> Any:
            if len(submitted) == len(photos) // 2:
                copy_over(other, folder)
                hosted.reload()
            submitted.append(item)
            return submit(item, *rest, **named)

        monkeypatch.setattr(engine, "submit", slow)
        reply = asyncio.run(hosted.answer([Entry(photo) for photo in photos], Caller("test", "1")))
    assert [(one.answer.prediction, one.answer.stage) for one in reply.answers] == expected
    assert reply.point.id == "2"
    assert len(submitted) > len(photos) // 2


@pytest.mark.parametrize("fault", ["half a file", "no file", "another model that is not allowed", "no folder"])
def test_what_cannot_be_loaded_leaves_the_old_one_at_work(
    folder: Path, other: Path, photos: list[bytes], fault: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with serving({"pair": folder}) as running:
        before = said_by(folder, photos)
        document = folder / "cascade.json"
        kept = document.read_text()
        if fault == "half a file":
            document.write_text(kept[: len(kept) // 2])
        elif fault == "no file":
            document.unlink()
        elif fault == "no folder":
            shutil.rmtree(folder)
        else:
            copy_over(other, folder)
        wait_for(lambda: "cannot be loaded" in capfd.readouterr().err)
        for photo, expected in zip(photos, before, strict=True):
            response = running.ask("POST", "/predict", photo, PNG)
            [answer] = response.json["answers"]
            assert (answer["prediction"], answer["stage"], response.json["operating_point"]) == (*expected, "1")
        folder.mkdir(exist_ok=True)
        document.write_text(json.dumps(json.loads(kept)))
        wait_for(lambda: running.server.hosted().point.id == "2")
        assert running.ask("POST", "/predict", photos[0], PNG).json["answers"][0]["prediction"] == before[0][0]


@pytest.mark.parametrize("its", ["no costs", "cost in seconds"])
def test_a_budget_of_cost_is_not_held_by_what_has_another_cost(
    folder: Path, other: Path, cascade_folder: Path, its: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    changed = other
    if its == "cost in seconds":
        changed = Path(shutil.copytree(cascade_folder, tmp_path / "changed"))
        document = json.loads((changed / "cascade.json").read_text())
        assert document["cost_key"] == "macs"
        (changed / "cascade.json").write_text(json.dumps({**document, "cost_key": "latency_ms"}))
    with serving({"pair": folder}, allow_python=BOTH, max_cost_per_hour=1e12) as running:
        copy_over(changed, folder)
        said = ""

        def told() -> bool:
            nonlocal said
            said += capfd.readouterr().err
            return "cannot be loaded" in said

        wait_for(told)
        assert running.server.hosted().point.id == "1"
        assert ("has no costs" if its == "no costs" else "its cost is latency_ms, and") in said


def test_costs_in_another_unit_are_not_added(
    folder: Path, cascade_folder: Path, photos: list[bytes], tmp_path: Path
) -> None:
    """The share saved is of answers since the unit changed; a reload with the same unit goes on."""
    with serving({"pair": folder}, reload=False) as running:
        hosted = running.server.hosted()
        hosted.reload()
        for photo in photos[:4]:
            running.ask("POST", "/predict", photo, PNG)
        hosted.reload()
        assert hosted.meter.base_alone == 4 * 1e7
        document = json.loads((folder / "cascade.json").read_text())
        (folder / "cascade.json").write_text(json.dumps({**document, "cost_key": "latency_ms"}))
        hosted.reload()
        assert hosted.meter.saved() is None
        running.ask("POST", "/predict", photos[0], PNG)
        assert hosted.meter.base_alone == 1e7


def test_a_chain_that_becomes_shorter_answers_what_its_last_stage_computes(
    cascade_folder: Path, other: Path, tmp_path: Path, photos: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, released, module = threading.Event(), threading.Event(), importlib.import_module(OTHER)
    plain = module.base

    def held(batch: Any) -> Any:
        if threading.current_thread().name == "pilotfish-engine":
            asked.set()
            released.wait(LONG)
        return plain(batch)

    vars(held).update(vars(plain))
    monkeypatch.setattr(module, "base", held)
    folder = Path(shutil.copytree(other, tmp_path / "chain"))
    options = {"allow_python": BOTH, "reload": False, "shadow": True}
    with serving({"pair": folder}, **options) as running, ThreadPoolExecutor(2) as pool:
        hosted = running.server.hosted()
        response, before = pool.submit(running.ask, "POST", "/predict?id=mine", photos[0], PNG), hosted.labels
        assert asked.wait(LONG)
        copy_over(cascade_folder, folder)
        change = pool.submit(hosted.reload)
        wait_for(lambda: hosted.point.id == "2")
        released.set()
        assert response.result(LONG).status == 200, response.result().body
        change.result(LONG)
        [answer] = response.result().json["answers"]
        assert (answer["stage"], answer["error"]) == (2, None)
        assert not hosted.labels.kept  # it is none of the cascade's that its label would be counted of
        for stage in (0, 2):
            before.answered("again", "1", stage, 0, 0.5)
            assert before.truth("again", 0) == "known"
        assert [sum(one.n) for one in hosted.point.maps] == [0, 0]


def test_a_folder_that_changes_while_its_stages_are_run_first_is_loaded_again(
    folder: Path, other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warm_up = Hosted.warm_up

    def slow(hosted: Hosted) -> None:
        copy_over(other, folder)
        warm_up(hosted)

    monkeypatch.setattr(Hosted, "warm_up", slow)
    with serving({"pair": folder}, allow_python=BOTH) as running:
        wait_for(lambda: running.server.hosted().point.id == "2")
        assert len(running.server.hosted().artefact.stages) == 3


def test_a_change_during_the_end_delays_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process waits for its threads: a large cascade is not warmed up for nobody."""
    hosted = Server({"pair": folder}, ServeOptions(allow_python=ALLOWED)).models["pair"]
    hosted.warm_up()
    load, ran = hosted.load, []
    monkeypatch.setattr("pilotfish.runtime.warm_up.run_stage", lambda *_: ran.append(1))

    def loaded() -> Cascade:
        hosted.drain(0.0)  # the signal comes meanwhile, in another thread
        return load()

    monkeypatch.setattr(hosted, "load", loaded)
    before = hosted.running
    hosted.reload()
    assert hosted.running is before
    assert not ran
