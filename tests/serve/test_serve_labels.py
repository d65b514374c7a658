"""Labels that come later: matched by id, counted once, and honest of what they say."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from pilotfish.documents import as_document
from pilotfish.serve.watch.labels import Labels
from pilotfish.serve.watch.store import Store


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def begun(**options: object) -> Labels:
    labels = Labels(2, **options)  # type: ignore[arg-type]
    labels.begin("1")
    return labels


def test_labels_are_known_unknown_or_duplicate() -> None:
    labels = begun()
    labels.answered("a", "1", 0, 3, 0.9)
    assert [labels.truth("a", 3), labels.truth("b", 3), labels.truth("a", 3), labels.truth("a", 4)] == [
        "known",
        "unknown",
        "duplicate",
        "duplicate",
    ]
    found = labels.to_json()
    assert (found["known"], found["unknown"], found["duplicate"], found["contradicted"]) == (1, 1, 2, 1)
    assert (found["n"], found["accuracy"]) == (1, 1.0)
    assert "contradict" in found["notes"][0]


def test_old_and_many_answers_are_let_go() -> None:
    clock = Clock()
    labels = begun(most=3, age=60.0, clock=clock)
    for i in range(5):
        labels.answered(str(i), "1", 0, 0, 0.9)
    assert list(labels.kept) == ["2", "3", "4"]
    clock.now += 61
    assert labels.truth("4", 0) == "unknown"
    assert not labels.kept


def test_a_clock_that_is_set_forward_forgets_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    labels, now = begun(), time.time()
    labels.answered("a", "1", 0, 3, 0.9)
    monkeypatch.setattr(time, "time", lambda: now + 30 * 86_400)
    labels.answered("b", "1", 0, 3, 0.9)
    assert [labels.truth(key, 3) for key in "ab"] == ["known", "known"]


@pytest.mark.parametrize("by", [-1.0, -3600.0, -1e9])
def test_a_clock_that_is_set_back_loses_no_answer(by: float, tmp_path: Path) -> None:
    clock, store, key = Clock(), Store(tmp_path / "state.db", every=60), ("pair", "abc")
    clock.now = 2e9
    labels = begun(clock=clock)
    for name in "abc":
        labels.answered(name, "1", 0, 3, 0.9)
        rows = {one: (kept.at, as_document(kept)) for one, kept in labels.take_changed().items()}
        store.keep(key, rows, labels.oldest)
        store.flush()
        clock.now += by
    assert list(store.answers(key)) == list(labels.kept) == ["a", "b", "c"]
    assert labels.truth("a", 3) == labels.truth("c", 3) == "known"
    store.close()


def test_accuracy_has_a_lower_bound() -> None:
    labels = begun()
    for i in range(400):
        labels.answered(str(i), "1", i % 2, 1, 0.9)
        labels.truth(str(i), 0 if i % 20 == 0 else 1)
    found = labels.to_json()
    assert found["accuracy"] == pytest.approx(0.95)
    assert 0.9 < found["bound"] < 0.95
    assert [stage["accuracy"] for stage in found["by_stage"]] == [pytest.approx(0.9), 1.0]
    assert found["by_traffic"]["accuracy"] == pytest.approx(0.95)
    assert found["by_traffic"]["bound"] <= found["bound"]


def test_labels_of_the_unsure_alone_are_weighed_and_said() -> None:
    labels = begun()
    for i in range(900):
        labels.answered(f"exit {i}", "1", 0, 1, 0.99)
    for i in range(100):
        labels.answered(f"base {i}", "1", 1, 1, 0.5)
        labels.truth(f"base {i}", i % 2)
    for i in range(100):
        labels.truth(f"exit {i}", 1)
    found = labels.to_json()
    assert found["accuracy"] == pytest.approx(0.75)
    assert found["by_traffic"]["accuracy"] == pytest.approx(0.95)
    assert any("not a random sample" in note for note in found["notes"])


def test_exits_are_compared_with_the_base_where_it_answered() -> None:
    labels = begun()
    for i in range(100):
        labels.answered(str(i), "1", 0, 1, 0.9)
        if i < 50:
            labels.base_said(str(i), "1", 1 if i % 10 else 2)
        labels.truth(str(i), 1 if i % 5 else 2)
    found = labels.to_json()["exits_against_base"]
    # of 50 audited, 10 have label 2: the base has 5 of those right, the saver none
    assert (found["n"], found["base_accuracy"]) == (50, pytest.approx(0.9))
    assert found["drop"] == pytest.approx(5 / 50)
    assert found["drop"] < found["drop_bound"] < 0.6
    escalated = begun()
    escalated.answered("e", "1", 1, 1, 0.4, base=1)
    escalated.truth("e", 1)
    assert escalated.to_json()["exits_against_base"]["n"] == 0  # no drop by construction; it would dilute the rest


def test_a_label_is_told_with_what_the_base_had_said() -> None:
    told: list[tuple[int, float, float, float | None]] = []
    labels = begun(tell=lambda *what: told.append(what))
    labels.answered("a", "1", 0, 3, 0.9)
    labels.answered("b", "1", 0, 3, 0.8)
    labels.base_said("b", "1", 4)
    labels.truth("a", 3)
    labels.truth("b", 3)
    assert told == [(0, 0.9, 1.0, None), (0, 0.8, 1.0, 0.0)]


def test_a_new_point_begins_anew() -> None:
    labels = begun()
    labels.answered("a", "1", 0, 3, 0.9)
    labels.begin("2")
    assert labels.truth("a", 3) == "known"
    assert (labels.to_json()["n"], labels.to_json()["earlier"]) == (0, 1)


def test_an_id_that_comes_again_is_that_of_the_newer_answer() -> None:
    labels = begun()
    labels.answered("a", "1", 0, 3, 0.9)
    labels.answered("a", "1", 0, 5, 0.9)
    labels.truth("a", 5)
    found = labels.to_json()
    assert (found["accuracy"], found["reused"]) == (1.0, 1)


def test_labels_go_on_from_their_state() -> None:
    labels = begun()
    for i in range(30):
        labels.answered(str(i), "1", i % 2, 1, 0.9)
    for i in range(10):
        labels.truth(str(i), i % 3)
    again = Labels(2)
    again.restore(json.loads(json.dumps(labels.to_state())), labels.take_changed())
    assert again.to_json() == labels.to_json()
    assert [again.truth("5", 1), again.truth("15", 1)] == ["duplicate", "known"]
    assert labels.take_changed() == {}
