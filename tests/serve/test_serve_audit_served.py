"""Audits, shadow, labels and the state file of a server that runs."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import io
import json
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pilotfish.cascade import OperatingPoint
from pilotfish.errors import StateError
from pilotfish.runtime import Cascade
from pilotfish.runtime.answers import Answer
from pilotfish.serve import ServeOptions, Server
from pilotfish.serve.served import Caller, Entry
from support.process import command
from support.server import ALLOWED, TOKENS, Serving, pictures, serve_process, serving, small_cascade

AUDIT = "/v2/models/pair/audit"
LABELS = "/v2/models/pair/labels"
POINT = "/v2/models/pair/operating_point"


def png(image: np.ndarray) -> bytes:
    held = io.BytesIO()
    Image.fromarray(image).save(held, "PNG")
    return held.getvalue()


def ask(running: Serving, images: np.ndarray, prefix: str = "") -> list[Any]:
    """Answers of the cascade that is served; ids are PREFIX0, PREFIX1, …"""
    entries = [Entry(png(image), id=f"{prefix}{i}") for i, image in enumerate(images)]
    reply = asyncio.run(running.server.models["pair"].answer(entries, Caller("test", "1")))
    return list(reply.answers)


def until(what: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not what():
        assert time.monotonic() < end
        time.sleep(0.01)


@dataclasses.dataclass(frozen=True)
class Known:
    """Pictures, the cascade's answers, and what each of its models says of each."""

    images: np.ndarray
    answers: list[Answer]
    saver: list[int]
    base: list[int]

    @property
    def exits(self) -> list[int]:
        return [i for i, answer in enumerate(self.answers) if answer.stage == 0]

    def differ(self) -> int:
        """Exits that the base would have answered otherwise."""
        return sum(self.saver[i] != self.base[i] for i in self.exits)


@pytest.fixture(scope="module")
def known(cascade_folder: Path) -> Known:
    cascade, images = Cascade.load(cascade_folder, allow_python=ALLOWED), pictures(60, seed=9)
    found, loaded = [], cascade.artefact
    answers = cascade.predict(list(images))
    for threshold in (-np.inf, np.inf):
        point = OperatingPoint((threshold,))
        cascade.artefact = dataclasses.replace(loaded, operating_point=point, guarantee=None)
        found.append([answer.prediction for answer in cascade.predict(list(images))])
    assert {answer.stage for answer in answers} == {0, 1}
    return Known(images, answers, *found)


def test_every_exit_is_audited_and_answers_stay_what_they_are(cascade_folder: Path, known: Known) -> None:
    with serving({"pair": cascade_folder}, tokens=TOKENS, audit=1.0) as at:
        running = at.as_operator
        served = ask(running, known.images)
        assert [(s.answer.prediction, s.answer.stage) for s in served] == [
            (a.prediction, a.stage) for a in known.answers
        ]
        n = len(known.exits)
        until(lambda: running.get(AUDIT).json["n"] == n)
        found = running.get(AUDIT).json
        assert found["disagreement"] == pytest.approx(known.differ() / n)
        assert found["disagreement"] < found["bound"] < 1
        assert found["exit_ratio"] == pytest.approx(n / len(known.images))
        assert found["drop_bound"] == pytest.approx(found["bound"] * found["exit_ratio"])
        assert (found["dropped"], found["on_their_way"], found["operating_point"]) == (0, 0, "1")
        bins = found["reliability"][0]  # of the saver; escalated inputs are compared as well
        assert sum(row["n"] for row in bins) == len(known.images)
        agree = sum(one == other for one, other in zip(known.saver, known.base, strict=True))
        assert sum(row["n"] * (row["right"] or 0) for row in bins) == pytest.approx(agree)
        running.ask("PUT", POINT, {"max_drop": "50%"})
        assert running.get(AUDIT).json["n"] == 0  # anew at each operating point


def test_without_audits_it_says_how_to_have_them(server: Serving) -> None:
    found = server.get(AUDIT).json
    assert (found["n"], found["disagreement"], found["bound"]) == (0, None, 1.0)
    assert "--audit" in found["notes"][0]


def test_in_shadow_the_base_answers_everybody(cascade_folder: Path, known: Known) -> None:
    with serving({"pair": cascade_folder}, tokens=TOKENS, shadow=True) as at:
        running = at.as_operator
        served = ask(running, known.images)
        assert [s.answer.prediction for s in served] == known.base
        assert all(s.flags == ("shadow",) and s.answer.stage == 1 for s in served)
        found = running.get(AUDIT).json
        shadow, n = found["shadow"], len(known.images)
        assert (shadow["n"], found["n"]) == (n, len(known.exits))
        assert shadow["exit_ratio"] == pytest.approx(len(known.exits) / n)
        assert shadow["drop"] == pytest.approx(known.differ() / n)
        assert shadow["saved"] == pytest.approx(len(known.exits) / n - 0.1)  # its costs are 1 and 10
        given = [{"id": str(i), "label": label} for i, label in enumerate(known.base)]
        assert running.ask("POST", LABELS, {"labels": given}).json["known"] == n
        labels = running.get(AUDIT).json["labels"]  # of what the cascade would have said
        assert labels["accuracy"] == pytest.approx(1 - known.differ() / n)
        assert labels["exits_against_base"]["base_accuracy"] == 1.0


def test_labels_come_by_id(cascade_folder: Path, known: Known) -> None:
    names = Cascade.load(cascade_folder, allow_python=ALLOWED).artefact.stages[-1].class_names
    assert names is not None
    with serving({"pair": cascade_folder}, tokens=TOKENS) as at:
        running = at.as_operator
        ask(running, known.images, "p")
        given = [{"id": f"p{i}", "label": names[known.answers[i].prediction]} for i in range(30)]
        said = running.ask("POST", LABELS, {"labels": [*given, {"id": "nobody", "label": 0}]})
        assert (said.status, said.json) == (200, {"known": 30, "unknown": 1, "duplicate": 0})
        assert running.ask("POST", LABELS, {"labels": given}).json == {"known": 0, "unknown": 0, "duplicate": 30}
        found = running.get(AUDIT).json["labels"]
        assert (found["n"], found["accuracy"]) == (30, 1.0)
        assert 0.8 < found["bound"] < 1


@pytest.fixture(scope="module")
def operated(cascade_folder: Path) -> Iterator[Serving]:
    with serving({"pair": cascade_folder}, tokens=TOKENS) as at:
        yield at.as_operator


@pytest.mark.parametrize(
    "body",
    [
        b"no json",
        {"labels": {}},
        {"labels": [{"id": "p0"}]},
        {"labels": [{"id": 3, "label": 0}]},
        {"labels": [{"id": "p0", "label": "unheard of"}]},
        {"labels": [{"id": "p0", "label": 5}]},
        {"labels": [{"id": "p0", "label": -1}]},
        {"labels": [{"id": "p0", "label": True}]},
        {"labels": [{"id": "p0", "label": 1.0}]},
        [],
    ],
)
def test_labels_that_are_none_are_refused(operated: Serving, body: Any) -> None:
    found = operated.ask("POST", LABELS, body)
    assert found.status == 400
    assert "label" in found.json["error"] or "JSON" in found.json["error"]
    assert "\n" not in found.json["error"]


def test_unsure_follows_what_labels_say(cascade_folder: Path, known: Known) -> None:
    """Confident answers of the base that turn out wrong, again and again: they are flagged then."""
    sure = [i for i, a in enumerate(known.answers) if a.stage == 1 and a.confidence > 0.7][:1]
    assert sure
    with serving({"pair": cascade_folder}, tokens=TOKENS, unsure_below=0.6) as at:
        running = at.as_operator
        picture = known.images[sure]
        assert ask(running, picture)[0].flags == ()
        ask(running, np.repeat(picture, 30, axis=0), "w")
        wrong = (known.answers[sure[0]].prediction + 1) % 5
        running.ask("POST", LABELS, {"labels": [{"id": f"w{i}", "label": wrong} for i in range(30)]})
        assert ask(running, picture)[0].flags == ("unsure",)


def test_state_goes_on_after_a_kill(tmp_path: Path) -> None:
    folder = small_cascade(tmp_path / "served")
    state, tokens = tmp_path / "state.db", tmp_path / "tokens"
    tokens.write_text("".join(f"{name} {token}" for token, name in TOKENS.items()))
    arguments = (f"pair={folder}", "--state", str(state), "--audit", "100%", "--token-file", str(tokens))
    with serve_process(*arguments, module_folder=tmp_path / "served") as (process, at):
        running = at.as_operator
        moved = running.ask("PUT", POINT, {"max_drop": "50%"})
        assert moved.status == 200
        for image in pictures(12, seed=4):
            running.ask("POST", "/predict", png(image), {"Content-Type": "image/png"})
        until(lambda: running.get(AUDIT).json["on_their_way"] == 0 and running.get(AUDIT).json["n"] > 0)
        before, point = running.get(AUDIT).json, running.get(POINT).json
        time.sleep(1.2)  # at most the last second is lost
        process.kill()
        process.wait()
    with serving({"pair": folder}, tokens=TOKENS, state=state, audit=1.0) as at:
        again = at.as_operator
        after = again.get(AUDIT).json
        assert again.get(POINT).json == point
        for key in ("n", "disagreement", "bound", "exit_ratio", "operating_point", "since", "labels", "reliability"):
            assert after[key] == before[key], key
        assert any("continues from" in note for note in again.server.notes)
        assert again.ask("PUT", POINT, {"max_drop": 0.0}).json["id"] == "3"
    options = ServeOptions(allow_python=ALLOWED, state=state, audit=1.0)
    server = Server({"pair": folder}, options)
    assert server.models["pair"].point.id == "3"
    with pytest.raises(StateError, match="in use"):
        Server({"pair": folder}, options)
    assert server.store is not None
    server.store.close()


def test_state_of_another_cascade_is_not_taken(tmp_path: Path) -> None:
    folder, state = small_cascade(tmp_path / "served"), tmp_path / "state.db"
    options = ServeOptions(allow_python=ALLOWED, state=state, audit=1.0)
    server = Server({"pair": folder}, options)
    assert server.store is not None
    server.models["pair"].move(max_drop="50%")
    server.store.close()
    other = small_cascade(tmp_path / "other", max_drop=0.5)  # tuned to another point
    again = Server({"pair": other}, options)
    assert again.models["pair"].point.id == "1"
    assert any("another cascade by the name pair" in note for note in again.notes)
    assert again.store is not None
    again.store.close()


def test_a_cascade_whose_scores_were_measured_again_goes_on_and_says_so(cascade_folder: Path, tmp_path: Path) -> None:
    folder, state = Path(shutil.copytree(cascade_folder, tmp_path / "cascade")), tmp_path / "state.db"
    options = ServeOptions(allow_python=ALLOWED, state=state, audit=1.0)
    server = Server({"pair": folder}, options)
    assert server.store is not None
    server.models["pair"].move(max_drop="50%")
    server.store.close()
    document = json.loads((folder / "cascade.json").read_text())
    assert document.pop("profile")
    (folder / "cascade.json").write_text(json.dumps(document))
    again = Server({"pair": folder}, options)
    assert again.models["pair"].point.id == "2"
    assert any("map 0 starts over" in note for note in again.notes)
    assert again.store is not None
    again.store.close()


@pytest.mark.parametrize("content", [b"no database", b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_state_that_cannot_be_used_is_one_line(tmp_path: Path, cascade_folder: Path, content: bytes) -> None:
    state = tmp_path / "state.db"
    state.write_bytes(content)
    allowed = [part for name in ALLOWED for part in ("--allow-python", name)]
    found = command(tmp_path, "serve", str(cascade_folder), "--state", str(state), "--port", "0", *allowed)
    assert found.returncode == 1
    assert found.stderr.startswith(f"pilotfish: error: {state}: damaged")
    assert found.stderr.count("\n") == 1
    assert state.read_bytes() == content


@pytest.mark.parametrize("since", [1e308, "x", None])
def test_a_state_whose_figures_are_damaged_is_refused(tmp_path: Path, cascade_folder: Path, since: Any) -> None:
    options = ServeOptions(allow_python=ALLOWED, state=tmp_path / "state.db")
    server = Server({"pair": cascade_folder}, options)
    assert server.store is not None
    server.store.close()
    with contextlib.closing(sqlite3.connect(tmp_path / "state.db")) as database, database:
        [(text,)] = database.execute("SELECT document FROM state WHERE part = 'served'").fetchall()
        document = json.loads(text)
        document["point"]["since"] = since
        database.execute("UPDATE state SET document = ?", (json.dumps(document),))
    with pytest.raises(StateError, match="damaged"):
        Server({"pair": cascade_folder}, options)


def test_audits_in_shadow_mode_are_said_to_add_nothing(cascade_folder: Path) -> None:
    server = Server({"pair": cascade_folder}, ServeOptions(allow_python=ALLOWED, audit=0.1, shadow=True))
    assert any("--audit has no effect" in note for note in server.notes)
    assert server.models["pair"].point.audit is None


def test_in_shadow_mode_no_budget_moves_the_operating_point(cascade_folder: Path) -> None:
    options = ServeOptions(allow_python=ALLOWED, max_cost_per_hour=1e-9, shadow=True)
    server = Server({"first": cascade_folder, "second": cascade_folder}, options)
    assert [one.spending for one in server.models.values()] == [None, None]
    found = [note for note in server.notes if "--max-cost-per-hour has no effect" in note]
    assert [note.partition(" --max")[0] for note in found] == ["first:", "second:"]  # each named once
