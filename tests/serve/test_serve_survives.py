"""What docs/serving.md says that the server survives is tested, and tests that it names are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pilotfish.serve import ServeOptions
from pilotfish.serve.http.access import is_loopback
from support.requests import b64
from support.server import Serving, serving

ROOT = Path(__file__).parents[2]
PNG = {"Content-Type": "image/png"}


def rows(heading: str) -> dict[int, set[str]]:
    """By number: what the tests of a table are called."""
    page = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
    table = page.partition("## What the server survives")[2].partition(f"| {heading} |")[2].partition("\n\n")[0]
    found: dict[int, set[str]] = {}
    for line in table.splitlines()[2:]:
        _, numbers, _, tests, _ = line.split("|")
        first, _, last = numbers.strip().partition("–")
        for number in range(int(first), int(last or first) + 1):
            found[number] = set(re.findall(r"`([^`]+)`", tests))
    return found


@pytest.mark.parametrize(("heading", "numbers"), [("fault", [*range(1, 31), 40]), ("duty", [*range(1, 41)])])
def test_whatever_is_survived_has_a_test(heading: str, numbers: list[int]) -> None:
    found = rows(heading)
    assert sorted(found) == numbers
    known = set()
    for file in (ROOT / "tests").rglob("test_*.py"):
        known |= set(re.findall(r"^def (test_\w+)", file.read_text(encoding="utf-8"), re.M))
    for number, tests in found.items():
        assert tests, number
        missing = {name for name in tests if name not in known and not (ROOT / name).is_file()}
        assert not missing, (number, missing)


def test_by_default_this_machine_alone_reaches_it() -> None:
    assert is_loopback(ServeOptions().host)


def test_while_it_warms_up_it_is_live_and_not_ready(cascade_folder: Path, photos: list[bytes]) -> None:
    with serving({"pair": cascade_folder}) as running:
        hosted = running.server.hosted()
        hosted.state = "WARMING"
        assert running.get("/v2/health/live").status == 200
        assert running.get("/v2/health/ready").status == 503
        assert running.get("/v2/models/pair/ready").status != 200
        refused = running.ask("POST", "/predict", photos[0], PNG)
        assert (refused.status, "retry-after" in refused.headers, list(refused.json)) == (503, True, ["error"])
        hosted.warm_up()
        assert running.get("/v2/health/ready").status == 200
        assert running.ask("POST", "/predict", photos[0], PNG).status == 200


@pytest.mark.parametrize("text", ["", "\x00", "\u202e", "é" * 100, "x" * 201, "x" * 1_000_000, 1.5, [], None])
def test_texts_of_every_kind(server: Serving, photos: list[bytes], text: object) -> None:
    """As ids: what may be one comes back as it was; what may not costs its input alone, in a short line."""
    image = b64(photos[0])
    found = server.ask("POST", "/predict", {"instances": [{"b64": image, "id": text}, {"b64": image}]})
    first, second = found.json["answers"]
    assert (found.status, second["error"]) == (200, None)
    if text is None or (isinstance(text, str) and 1 <= len(text) <= 200):
        assert (first["error"], first["id"]) == (None, text)
    else:
        assert first["prediction"] is None
        assert len(first["error"]) < 200
