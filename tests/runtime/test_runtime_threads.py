"""One cascade, many threads: every answer is right, and every call is of one operating point."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from pilotfish.plan import tune
from pilotfish.recording import RecordOptions, record
from pilotfish.records import Run
from pilotfish.runtime import Answer, Cascade

if TYPE_CHECKING:
    from conftest import Pair

THREADS, ROUNDS = 8, 12
POINTS = ("5%", "100%")
CLEAR = 1e-3  # of a probability, to the nearest threshold: company moves the last digits of a score
Said = tuple[Any, Any, Any]


def said(answer: Answer) -> Said:
    return answer.prediction, answer.stage, answer.error


@pytest.fixture(autouse=True)
def often() -> Iterator[None]:
    """Threads take turns a thousand times as often as they would."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(5e-6)
    yield
    sys.setswitchinterval(usual)


def hammer(work: Callable[[np.random.Generator], None]) -> None:
    """Run *work* in all threads, which begin at once; the first that fails fails the test."""
    start, failed = threading.Barrier(THREADS), list[BaseException]()

    def run(seed: int) -> None:
        try:
            start.wait(30)
            for turn in range(ROUNDS):
                work(np.random.default_rng((seed, turn)))
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=(seed,), daemon=True) for seed in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not any(thread.is_alive() for thread in threads)
    if failed:
        raise failed[0]


def mixed_calls(cascade: Cascade, forms: list[list[Any]], broken: Any) -> None:
    """Every kind of call on inputs at random, while any thread moves the operating point.

    forms  of each input, all that may stand for it
    """
    known, thresholds = [], []
    for point in POINTS:
        cascade.set_operating_point(max_drop=point)
        answers = [cascade.predict_one(one[0]) for one in forms]
        known.append([said(answer) for answer in answers])
        thresholds += cascade.thresholds
    sure = np.array([answer.confidence for answer in answers])  # the saver's: at the last point all exit
    near = (np.abs(sure[:, None] - thresholds) < CLEAR).any(axis=1)
    assert near.sum() < len(forms) / 2
    assert [{stage for _, stage, _ in point} for point in known] == [{0, 1}, {0}]

    def check(rows: list[int], found: list[Said]) -> None:
        keep = [i for i, row in enumerate(rows) if not near[row]]
        assert [found[i] for i in keep] in [[point[rows[i]] for i in keep] for point in known]

    def work(rng: np.random.Generator) -> None:
        rows = rng.integers(0, len(forms), rng.integers(1, 12)).tolist()
        inputs = [forms[row][rng.integers(len(forms[row]))] for row in rows]
        kind = rng.integers(6)
        if kind == 0:
            *found, last = cascade.predict([*inputs, broken])
            check(rows, [said(answer) for answer in found])
            assert last.error is not None
        elif kind == 1:
            check(rows, [said(answer) for answer in cascade.stream(inputs)])
        elif kind == 2:
            with cascade.engine() as engine:
                futures = [engine.submit(one) for one in inputs]
                check(rows, [(f.prediction, f.stage, f.error) for f in (future.result(60) for future in futures)])
        elif kind == 3:
            cascade.set_operating_point(max_drop=POINTS[rng.integers(2)])
        else:
            for row, one in zip(rows, inputs, strict=True):
                check([row], [said(cascade.predict_one(one))])
            assert cascade.predict_one(broken).error is not None

    hammer(work)


def test_images_in_every_form(pair: Pair, photos: list[Path]) -> None:
    cascade = Cascade.load(pair.cascade, allow_python=pair.allowed)
    forms: list[list[Any]] = [
        [path, path.read_bytes(), Image.open(path), pixels] for path, pixels in zip(photos, pair.images, strict=False)
    ]
    mixed_calls(cascade, forms, b"junk")


def test_sessions_that_are_opened_by_many_at_once(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    from support.graphs import WEIGHTS, behind_a_layer, node

    rng = np.random.default_rng(5)
    x = rng.standard_normal((300, 6)).astype(np.float32)
    worse = WEIGHTS + 0.5 * rng.standard_normal(WEIGHTS.shape).astype(np.float32)
    label = np.where(rng.random(300) < 0.9, (x @ WEIGHTS).argmax(axis=1), rng.integers(0, 4, 300))
    np.savez(tmp_path / "data.npz", x=x, label=label)
    names = []
    for name, weights in (("saver", worse), ("base", WEIGHTS)):
        onnx.save(behind_a_layer(node("Identity", ["z"], ["y"]), W=weights), tmp_path / f"{name}.onnx")
        names.append(f"onnx:{tmp_path / name}.onnx?layout=tensor")
    record(f"arrays:{tmp_path}/data.npz", names, tmp_path / "run", options=RecordOptions(timing=False))
    folder = tune(Run(tmp_path / "run"), names, max_drop=0.02, holdout=0).save(tmp_path / "cascade")
    expected = [said(answer) for answer in Cascade.load(folder).predict(x[:8])]
    for _ in range(5):  # the first call opens sessions: they are opened once, whoever is first
        cascade, found = Cascade.load(folder), dict[int, Said]()
        start = threading.Barrier(THREADS)

        def one(row: int, cascade: Cascade = cascade, found: dict[int, Said] = found, start: Any = start) -> None:
            start.wait(30)
            found[row] = said(cascade.predict_one(x[row]))

        threads = [threading.Thread(target=one, args=(row,), daemon=True) for row in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert [found[row] for row in range(THREADS)] == expected
    mixed_calls(cascade, [[row, row.astype(np.float64)] for row in x[:40]], x[0] * np.nan)
    assert said(cascade.predict(x[0])[0]) == said(cascade.predict_one(x[0]))  # of the shape of one input
