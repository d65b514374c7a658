"""What share of the processor's time goes into inputs, and what is said of it. No test depends on how fast it is."""

from __future__ import annotations

import contextlib
import io
import json
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from pilotfish.data import Encoded
from pilotfish.errors import UnreadableSample
from pilotfish.models import Preprocessing
from pilotfish.report.bench_table import bench_section
from pilotfish.runtime import Cascade, bench
from pilotfish.runtime.decoding_share import ClockedSupply, DecodeShare, Run, advice
from pilotfish.runtime.spread import Spread
from pilotfish.runtime.supply import UNREAD

if TYPE_CHECKING:
    from conftest import Pair

CHAIN = Preprocessing(size=(32, 32), resize=36)


def encoded(width: int = 60, height: int = 50, form: str = "JPEG") -> Encoded:
    file = io.BytesIO()
    Image.new("RGB", (width, height), "red").save(file, form)
    return Encoded(file.getvalue(), "x")


def share(value: float) -> DecodeShare:
    return DecodeShare(Spread.of([2.0]), Spread.of([value]))


def test_shares_are_those_of_the_runs() -> None:
    found = DecodeShare.of([Run(9.0, 10.0, 4.0), Run(9.0, 8.0, 2.0), Run(9.0, 0.0, 0.0)])
    assert (found.ms.median, found.share.limits, found.share.median) == (2.0, [0.0, 0.4], 0.25)


def test_every_input_is_clocked_also_one_that_fails() -> None:
    class Engine:
        def run(self, supply: ClockedSupply) -> None:
            for sample in (encoded(), encoded(form="PNG"), Encoded(b"none", "x")):
                with contextlib.suppress(UnreadableSample):
                    supply.prepare(0, SimpleNamespace(key=sample, sample=UNREAD))  # type: ignore[arg-type]

    supply = ClockedSupply(lambda key: key, 3, [CHAIN], 1)
    run = Run.of(Engine(), supply, 3)  # type: ignore[arg-type]
    assert len(supply.spent) == 3
    assert run.inputs_ms == pytest.approx(1000 * sum(supply.spent) / 3)
    assert run.processor_ms >= run.inputs_ms > 0


@pytest.mark.parametrize(
    ("chain", "sample", "said"),
    [
        (Preprocessing(), encoded(), "?decoder=turbojpeg&resizer=torchvision,"),
        (Preprocessing(decoder="pillow-draft"), encoded(), "?decoder=turbojpeg&resizer=torchvision,"),
        (Preprocessing(), encoded(2400, 40), "?decoder=turbojpeg-draft&resizer=torchvision,"),
        (Preprocessing(decoder="turbojpeg"), encoded(), "?resizer=torchvision,"),
        (Preprocessing(interpolation="lanczos"), encoded(), "?decoder=turbojpeg,"),
        (Preprocessing(resizer="torchvision"), encoded(), "?decoder=turbojpeg,"),
        (Preprocessing(), encoded(form="PNG"), "?resizer=torchvision,"),
        (Preprocessing(), np.zeros((40, 40, 3), np.uint8), "?resizer=torchvision,"),
    ],
)
def test_what_reads_faster_is_named(chain: Preprocessing, sample: object, said: str) -> None:
    (line,) = advice(share(0.41), [chain], sample)
    assert line.startswith(
        "decoding takes 41% of the cascade's processor time (2.00 ms a sample): record its first stage with"
    )
    assert said in line
    assert "\n" not in line


@pytest.mark.parametrize(
    ("found", "chain", "sample"),
    [
        (0.3, CHAIN, encoded()),
        (0.9, Preprocessing(decoder="turbojpeg", resizer="torchvision"), encoded()),
        (0.9, Preprocessing(decoder="turbojpeg-draft", resizer="torchvision"), encoded()),
        (0.9, Preprocessing(decoder="turbojpeg-draft", resizer="torchvision"), encoded(2400, 40)),
        (0.9, Preprocessing(kind="tensor", size=None, resize=None, mean=(), std=()), np.zeros(4)),
    ],
)
def test_nothing_is_said_where_nothing_is_gained(found: float, chain: Preprocessing, sample: object) -> None:
    assert advice(share(found), [chain], sample) == ()
    assert advice(share(found), [chain, Preprocessing()], sample) == ()  # a base that few samples reach


def test_bench_shows_the_share(pair: Pair) -> None:
    cascade = Cascade.load(pair.cascade, allow_python=pair.allowed)
    document = json.loads(json.dumps(bench(cascade, pair.data, runs=2, samples=30, peers=False).to_json()))
    assert document["notes"] == list(document["notes"])
    for whose in ("base", "cascade"):
        found = document["decode_share"][whose]
        assert found["ms"] > 0
        assert 0 < found["share"] <= 1
        assert found["share_spread"][0] <= found["share"] <= found["share_spread"][1]
    assert "decoding" in str(bench_section(document, document["stages"]))
    del document["decode_share"]
    assert "decoding" not in str(bench_section(document, document["stages"]))
