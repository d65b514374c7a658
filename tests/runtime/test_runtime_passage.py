"""Passages: who submits an input may have the last word on when it exits."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future, wait
from typing import Any

import numpy as np
import pytest

from pilotfish.errors import EngineError
from pilotfish.models import Preprocessing
from pilotfish.runtime import Engine, EngineStage
from pilotfish.runtime.single import OneAnswer
from pilotfish.runtime.supply import DecodingSupply
from support.engine import Lookup, by_max_prob, plain_cascade

TENSOR = Preprocessing(kind="tensor", size=None, resize=None, mean=(), std=())
N = 24
LOGITS = [np.random.default_rng(seed).standard_normal((N, 4)).astype(np.float32) * 3 for seed in (0, 1)]
PLAIN = [plain_cascade(LOGITS, [1.0], i) for i in range(N)]
EXITS = [i for i in range(N) if (p := PLAIN[i]) and p.stage == 0]
STAYS = [i for i in range(N) if i not in EXITS]
LONG = 60


def engine(size: int = 4, **options: Any) -> Engine:
    stages = [EngineStage(f"s{k}", Lookup(z), size) for k, z in enumerate(LOGITS)]
    read = lambda i: np.array([i], np.float32)  # noqa: E731
    return Engine(stages, by_max_prob([1.0]), supply=DecodingSupply(read, (), [TENSOR] * 2, 2), **options)


class Says:
    """A passage that moves as it was told, and writes down what it was asked."""

    def __init__(self, *moves: Any) -> None:
        self.moves, self.asked = list(moves), []

    def __call__(self, stage: int, answer: OneAnswer, value: float, exits: bool) -> Any:
        self.asked.append((stage, answer.prediction, exits))
        move = self.moves.pop(0) if self.moves else exits
        return exits if move is None else move


@pytest.mark.parametrize("alone", [True, False], ids=["alone", "together"])
def test_a_passage_is_asked_at_every_stage_with_what_the_rule_says(alone: bool) -> None:
    passages = [Says() for _ in range(N)]
    with engine() as running:
        futures = []
        for i in range(N):
            futures.append(running.submit(i, passage=passages[i]))
            if alone:
                futures[-1].result(LONG)
        found = [future.result(LONG) for future in futures]
    assert [(f.prediction, f.stage) for f in found] == [(p.prediction, p.stage) for p in PLAIN if p]
    for i, passage in enumerate(passages):
        first = int(LOGITS[0][i].argmax())
        expected = [(0, first, True)] if i in EXITS else [(0, first, False), (1, int(LOGITS[1][i].argmax()), True)]
        assert passage.asked == expected


@pytest.mark.parametrize("alone", [True, False], ids=["alone", "together"])
@pytest.mark.parametrize("to", [True, False], ids=["exits", "goes-on"])
def test_a_passage_has_the_last_word(to: bool, alone: bool) -> None:
    with engine() as running:
        futures = []
        for i in range(N):
            futures.append(running.submit(i, passage=Says(to)))
            if alone:
                futures[-1].result(LONG)
        found = [future.result(LONG) for future in futures]
    k = 0 if to else 1
    assert [(f.prediction, f.stage) for f in found] == [(int(row.argmax()), k) for row in LOGITS[k]]


def test_after_the_last_stage_there_is_nowhere_to_go() -> None:
    with engine() as running:
        found = running.submit(STAYS[0], passage=Says(False, False)).result(LONG)
    assert (found.stage, found.error) == (1, None)


@pytest.mark.parametrize("size", [1, 4])
def test_an_input_is_answered_at_once_and_goes_on_to_the_last_stage(size: int) -> None:
    later: list[Future[Any]] = [Future() for _ in EXITS]
    with engine(size) as running:
        now = [running.submit(i, passage=Says(f), deadline=30) for i, f in zip(EXITS, later, strict=True)]
        wait([*now, *later], LONG)
        assert running.under_way == 0
    assert [(f.result().prediction, f.result().stage) for f in now] == [(int(LOGITS[0][i].argmax()), 0) for i in EXITS]
    assert [(f.result().prediction, f.result().stage) for f in later] == [
        (int(LOGITS[1][i].argmax()), 1) for i in EXITS
    ]


@pytest.mark.parametrize("alone", [True, False], ids=["alone", "together"])
def test_an_input_that_is_refused_on_its_way_fails_alone(alone: bool) -> None:
    with engine() as running:
        futures = []
        for i in range(N):
            futures.append(running.submit(i, passage=Says(EngineError("no room")) if i in STAYS else None))
            if alone:
                wait(futures, LONG)
        wait(futures, LONG)
        assert running.under_way == 0
    assert [i for i, future in enumerate(futures) if future.exception() is not None] == STAYS


@pytest.mark.parametrize("n", [1, 4], ids=["alone", "together"])
def test_an_input_that_was_given_up_while_it_was_computed_is_asked_nothing(n: int) -> None:
    """Else a client that leaves would take a token, or cost an audit that never comes back."""
    is_open, has_begun = threading.Event(), threading.Event()

    class Held(Lookup):
        def step(self, inputs: Any, carry: Any = None) -> Any:
            has_begun.set()
            is_open.wait(LONG)
            return super().step(inputs, carry)

    stages = [EngineStage("s0", Held(LOGITS[0]), 4), EngineStage("s1", Lookup(LOGITS[1]), 4)]
    read = lambda i: np.array([i], np.float32)  # noqa: E731
    left, stays = [Says() for _ in range(n)], Says()
    with Engine(
        stages, by_max_prob([1.0]), supply=DecodingSupply(read, (), [TENSOR] * 2, 1), max_wait_ms=0 if n == 1 else 500
    ) as running:
        futures = [running.submit(i, passage=passage) for i, passage in enumerate(left)]
        assert has_begun.wait(LONG)
        for future in futures:
            future.cancel()
        is_open.set()
        assert running.submit(EXITS[0], passage=stays).result(LONG).stage == 0
        assert running.under_way == 0
    assert [passage.asked for passage in left] == [[]] * n
    assert len(stays.asked) == 1


@pytest.mark.parametrize("alone", [True, False], ids=["alone", "together"])
def test_a_passage_that_raises_costs_its_own_input_alone(alone: bool) -> None:
    class Broken(Says):
        def __call__(self, *asked: Any) -> Any:
            raise ZeroDivisionError("a bug")

    with engine() as running:
        futures = []
        for i in range(N):
            futures.append(running.submit(i, passage=Broken() if i == EXITS[0] else Says()))
            if alone:
                wait(futures, LONG)
        wait(futures, LONG)
    assert [i for i, future in enumerate(futures) if future.exception() is not None] == [EXITS[0]]
    assert isinstance(futures[EXITS[0]].exception(), ZeroDivisionError)


def test_an_observer_that_raises_costs_no_answer(caplog: pytest.LogCaptureFixture) -> None:
    def broken(*told: Any) -> None:
        raise ZeroDivisionError("a bug")

    with engine(observer=broken) as running:
        found = [future.result(LONG) for future in [running.submit(i) for i in range(N)]]
    assert [(f.prediction, f.stage) for f in found] == [(p.prediction, p.stage) for p in PLAIN if p]
    assert "observer" in caplog.text


def test_closing_gives_up_what_goes_on_after_its_answer() -> None:
    later: Future[Any] = Future()
    running = engine()
    assert running.submit(EXITS[0], passage=Says(later)).result(LONG).stage == 0
    running.close()
    assert later.done()


def test_an_observer_is_told_of_every_batch() -> None:
    told: list[tuple[int, int, int, bool]] = []
    with engine(observer=lambda k, n, waited, seconds: told.append((k, n, len(waited), seconds >= 0))) as running:
        wait([running.submit(i) for i in range(N)], LONG)
        assert [d.waiting for d in running.depths()] == [0, 0]
    assert sum(n for k, n, *_ in told if k == 0) == N
    assert sum(n for k, n, *_ in told if k == 1) == len(STAYS)
    assert all(n == each and fine for _, n, each, fine in told)


@pytest.mark.parametrize("move", [True, False])
def test_a_value_that_is_no_number_is_asked_about_and_goes_on(move: bool) -> None:
    """Whoever counts escalations sees these as well; what the first stage said of them cannot be an answer."""
    logits = [LOGITS[0].copy(), LOGITS[1]]
    logits[0][:3] = np.nan
    stages = [EngineStage(f"s{k}", Lookup(z), 4) for k, z in enumerate(logits)]
    read = lambda i: np.array([i], np.float32)  # noqa: E731
    passages = [Says(move) for _ in range(3)]
    with Engine(stages, by_max_prob([1.0]), supply=DecodingSupply(read, (), [TENSOR] * 2, 2)) as running:
        futures = [running.submit(i, passage=passages[i]) for i in range(3)]
        found = [future.result(LONG) for future in futures]
    assert [answer.stage for answer in found] == [1, 1, 1]
    assert [answer.prediction for answer in found] == LOGITS[1][:3].argmax(axis=1).tolist()
    assert all((passage.asked[0][0], passage.asked[0][2]) == (0, False) for passage in passages)


def test_inputs_go_by_their_turns() -> None:
    """However many wait: of equal turns, as they came."""
    turns = np.random.default_rng(3).integers(0, 5, N).tolist()
    order: list[int] = []
    is_open, everything = threading.Event(), range(N)

    def read(i: int) -> np.ndarray:
        if i == N - 1:
            is_open.wait(LONG)
        order.append(i)
        return np.array([i], np.float32)

    stages = [EngineStage(f"s{k}", Lookup(z), 1) for k, z in enumerate(LOGITS)]
    with Engine(stages, by_max_prob([1.0]), supply=DecodingSupply(read, (), [TENSOR] * 2, 1)) as running:
        first = running.submit(N - 1, turn=0)  # the only worker reads this one meanwhile
        futures = [running.submit(i, turn=turns[i]) for i in everything[:-1]]
        is_open.set()
        wait([first, *futures], LONG)
    assert order == [N - 1, *sorted(everything[:-1], key=lambda i: turns[i])]


def test_light_inputs_neither_wait_nor_share_a_batch_with_others() -> None:
    """Not even for a batch that would never be full; and one that is full does not go before them."""
    stages = [EngineStage(f"s{k}", Lookup(z), 4) for k, z in enumerate(LOGITS)]
    batches: list[tuple[int, int]] = []
    read = lambda i: np.array([i], np.float32)  # noqa: E731
    supply = DecodingSupply(read, (), [TENSOR] * 2, 2)
    with Engine(
        stages, by_max_prob([1.0]), supply=supply, max_wait_ms=LONG * 1000,
        observer=lambda stage, n, waited, seconds: batches.append((stage, n)),
    ) as running:  # fmt: skip
        heavy = [running.submit(STAYS[0], turn=9) for _ in range(3)]
        light = [running.submit(STAYS[0], turn=0, light=True) for _ in range(2)]
        assert [future.result(LONG).stage for future in light] == [1, 1]
        assert not any(future.done() for future in heavy)
        assert sum(n for stage, n in batches if stage == 0) == sum(n for stage, n in batches if stage == 1) == 2
        heavy.append(running.submit(STAYS[0], turn=10))
        assert [future.result(LONG).stage for future in heavy] == [1] * 4
    assert batches[-2:] == [(0, 4), (1, 4)]


def test_while_light_inputs_are_under_way_others_take_no_core_from_them() -> None:
    """As many calls and readings as there are cores, here one; then the others go on, also where a light one left."""
    is_read, is_open, read_so_far = threading.Event(), threading.Event(), []

    class Held(Lookup):
        def step(self, inputs: Any, carry: Any = None) -> Any:
            is_read.set()
            is_open.wait(LONG)
            return super().step(inputs, carry)

    def read(i: int) -> np.ndarray:
        read_so_far.append(i)
        return np.array([i], np.float32)

    stages = [EngineStage("s0", Held(LOGITS[0]), 4), EngineStage("s1", Lookup(LOGITS[1]), 4)]
    with Engine(stages, by_max_prob([1.0]), supply=DecodingSupply(read, (), [TENSOR] * 2, 1)) as running:
        light = running.submit(STAYS[0], light=True)
        assert is_read.wait(LONG)
        left = running.submit(STAYS[1], turn=1, light=True)
        others = [running.submit(i, turn=2) for i in EXITS[:5]]
        while STAYS[1] not in read_so_far:  # by the thread that would read the others next
            time.sleep(0.001)
        time.sleep(0.02)
        assert not set(EXITS[:5]) & set(read_so_far)
        left.cancel()
        is_open.set()
        assert light.result(LONG).stage == 1
        assert [future.result(LONG).stage for future in others] == [0] * 5


def test_a_light_input_that_has_begun_goes_before_what_others_have_begun() -> None:
    begun, is_open = threading.Event(), threading.Event()

    class Held(Lookup):
        def step(self, inputs: Any, carry: Any = None) -> Any:
            begun.set()
            is_open.wait(LONG)
            return super().step(inputs, carry)

    first, last = Lookup(LOGITS[0]), Held(LOGITS[1])
    read = lambda i: np.array([i], np.float32)  # noqa: E731
    with Engine(
        [EngineStage("s0", first, 1, lanes=2), EngineStage("s1", last, 1)],
        by_max_prob([1.0]),
        supply=DecodingSupply(read, (), [TENSOR] * 2, 2),
    ) as running:
        futures = [running.submit(STAYS[0], turn=0)]
        assert begun.wait(LONG)
        futures += [running.submit(STAYS[i], turn=i, light=i == 3) for i in (1, 2, 3)]
        while running.depths()[1].waiting < 3:
            time.sleep(0.001)
        is_open.set()
        wait(futures, LONG)
    assert last.batches == [[STAYS[i]] for i in (0, 3, 1, 2)]
