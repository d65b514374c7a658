"""A few of the malformed requests that ``benchmarks/serve_fuzz.py`` throws at servers by the hundred thousand."""

from __future__ import annotations

import asyncio
import importlib.util
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pilotfish.serve.options import Limits
from support.server import Serving, serving

BENCHMARK = Path(__file__).resolve().parent.parent.parent / "benchmarks" / "serve_fuzz.py"


@pytest.fixture(scope="module")
def fuzz() -> Any:
    """The benchmark as a module."""
    spec = importlib.util.spec_from_file_location("serve_fuzz", BENCHMARK)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    path = list(sys.path)
    spec.loader.exec_module(module)
    sys.path[:] = path
    return module


@pytest.fixture(scope="module")
def attacked(cascade_folder: Path, fuzz: Any) -> Iterator[Serving]:
    limits = Limits(request_seconds=0.3)
    with serving({"pair": cascade_folder}, tokens={fuzz.TOKEN: "fuzzer"}, limits=limits, reload=False) as found:
        yield found
        assert found.get("/v2/health/ready").status == 200


def test_the_seeds_are_answered(fuzz: Any, attacked: Serving) -> None:
    """What is fuzzed is near to what works: nothing is refused but what cannot be done."""

    async def ask() -> list[Any]:
        return [await fuzz.ask(attacked.port, raw) for raw in fuzz.good_requests()]

    statuses = asyncio.run(ask())
    refused = {
        raw.split(b" HTTP")[0] for status, raw in zip(statuses, fuzz.good_requests(), strict=True) if status != 200
    }
    empty_image, no_get, elsewhere = b"POST /predict", b"GET /predict", b"GET /v2/trace/setting"
    without_audits = {b"GET /v2/models/pair/audit", b"POST /v2/models/pair/labels"}
    assert refused - without_audits == {empty_image, no_get, elsewhere}
    assert len(statuses) - statuses.count(200) <= 5


def test_malformed_requests_have_an_answer_or_an_end_and_none_is_500(fuzz: Any, attacked: Serving) -> None:
    draw, seeds = random.Random(19), fuzz.good_requests()
    cases = [fuzz.case(draw, seeds) for _ in range(400)]
    statuses, failed = asyncio.run(fuzz.throw(attacked.port, iter(cases), 50))
    assert statuses.total() == len(cases)
    assert failed == []
    assert statuses[400] > 100 < statuses[200]


def test_the_same_seed_draws_the_same_cases(fuzz: Any) -> None:
    first, again = ([fuzz.case(draw, fuzz.good_requests()) for _ in range(50)] for draw in map(random.Random, (1, 1)))
    assert first == again
