"""Documents are read by the hints of a dataclass, all of it, and written so that they come back."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pilotfish.documents import ALWAYS, OFF_DEFAULT, Count, Share, Unbounded, Within, as_document, read_as
from pilotfish.errors import RecordsError


@dataclass(frozen=True)
class Inner:
    name: str
    share: Share = 0.5


@dataclass(frozen=True)
class Outer:
    n: Count
    kind: Literal["a", "b"]
    cuts: tuple[Unbounded, ...]
    pair: tuple[float, float]
    inner: Inner
    parts: tuple[Inner, ...] = ()
    costs: Mapping[str, Annotated[float, Within(0)]] = field(default_factory=dict)
    names: tuple[str, ...] | None = None
    side: int | tuple[int, int] | None = None
    flag: bool = False
    grid: NDArray[np.float64] | None = None
    late: str | None = field(default=None, metadata=OFF_DEFAULT)
    must: int | None = field(default=3, metadata=ALWAYS)

    def validate(self) -> None:
        if self.n == 13:
            raise ValueError("n is unlucky")

    @staticmethod
    def modern(document: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"n" if key == "count" else key: value for key, value in document.items()}


SOUND = Outer(
    2, "a", (math.inf, -math.inf, 0.5), (1.0, 2.0), Inner("x"), (Inner("y", 1.0),), {"macs": 3.0}, ("p",), (1, 2)
)


def read(document: Any, **options: Any) -> Outer:
    return read_as(Outer, document, "file.json", RecordsError, **options)


def changed(**wrong: Any) -> dict[str, Any]:
    return {**as_document(SOUND), **wrong}


def test_what_is_written_comes_back() -> None:
    document = json.loads(json.dumps(as_document(SOUND), allow_nan=False))
    assert document["cuts"] == ["inf", "-inf", 0.5]
    assert "late" not in document
    assert read(document) == SOUND
    assert read(changed(late="now")).late == "now"


@given(
    st.lists(st.floats(allow_nan=False), max_size=5),
    st.integers(0, 2**53).filter(lambda n: n != 13),  # which is refused
    st.dictionaries(st.text(), st.floats(0, 1e9)),
)
def test_any_values_come_back(cuts: list[float], n: int, costs: dict[str, float]) -> None:
    made = Outer(n, "b", tuple(cuts), (0.0, -1.5), Inner("x"), costs=costs)
    assert read(json.loads(json.dumps(as_document(made), allow_nan=False))) == made


def test_arrays_come_back_and_nan_is_null() -> None:
    grid = np.array([[0.5, 1.0], [2.0, 3.0]])
    found = read(changed(grid=grid.tolist())).grid
    assert found is not None
    assert found.dtype == np.float64
    assert np.array_equal(found, grid)
    assert as_document([np.nan, np.float64(math.inf), grid[0]]) == [None, "inf", [0.5, 1.0]]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"n": -1}, "n is -1, expected a whole number of at least 0"),
        ({"n": 1.0}, "n is 1.0, expected a whole number"),
        ({"n": True}, "n is true, expected a whole number"),
        ({"n": "2"}, "n is '2', expected a whole number"),
        ({"n": 10**400}, "n is a number beyond|n is 1000"),
        ({"kind": "c"}, "kind is 'c', expected one of a, b"),
        ({"kind": ["a"]}, "kind is a list of 1, expected one of a, b"),
        ({"cuts": [1, "x"]}, r"cuts\[1\] is 'x', expected a number, inf or -inf"),
        ({"cuts": "inf"}, "cuts is 'inf', expected a list"),
        ({"cuts": {"0": 1}}, "cuts is an object, expected a list"),
        ({"pair": [1]}, "pair has 1 value, expected 2"),
        ({"pair": [1, "inf"]}, r"pair\[1\] is 'inf', expected a number"),
        ({"inner": None}, "inner is null, expected an object"),
        ({"inner": {}}, r"inner.name is missing, expected a text"),
        ({"inner": {"name": "x", "share": 1.5}}, "inner.share is 1.5, expected a number from 0 to 1"),
        ({"parts": [{"name": "x"}, {"name": 3}]}, r"parts\[1\].name is 3, expected a text"),
        ({"parts": [{"name": "x", "colour": 3}]}, r"unknown key 'colour' in parts\[0\] \(written by a newer Pi"),
        ({"costs": {"macs": -1}}, r"costs\['macs'\] is -1, expected a number of at least 0"),
        ({"costs": []}, "costs is a list of 0, expected an object"),
        ({"names": ["a", 3]}, r"names\[1\] is 3, expected a text"),
        ({"names": "abc"}, "names is 'abc', expected a list or null"),
        ({"side": 1.5}, "side is 1.5, expected a whole number or a list or null"),
        ({"side": [1, 2, 3]}, "side has 3 values, expected 2"),
        ({"flag": 0}, "flag is 0, expected true or false"),
        ({"grid": [[1], [1, 2]]}, "grid has rows of different lengths"),
        ({"grid": [[None]]}, r"grid\[0\]\[0\] is null, expected a number"),
        ({"late": 3}, "late is 3, expected a text or null"),
        ({"n": 13}, "n is unlucky"),
    ],
)
def test_what_is_wrong_is_named_in_one_line(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(RecordsError, match=rf"^file\.json: .*{said}.*; record again$") as caught:
        read(changed(**wrong), advice="record again")
    assert len(str(caught.value)) < 200
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("document", [None, [], "x", 3, True])
def test_what_is_no_object_is_refused(document: Any) -> None:
    with pytest.raises(RecordsError, match=r"^file\.json: expected an object, found "):
        read(document)


@pytest.mark.parametrize("key", ["n", "kind", "cuts", "must"])
def test_what_must_be_there_is_missed(key: str) -> None:
    document = changed()
    del document[key]
    with pytest.raises(RecordsError, match=f"{key} is missing, expected "):
        read(document)


def test_older_words_unknown_keys_and_parts() -> None:
    document = changed(colour="red")
    document["count"] = document.pop("n")
    assert read(document, unknown="ignore") == SOUND
    with pytest.raises(RecordsError, match="unknown key 'colour'"):
        read(document)
    assert read_as(tuple[int, ...], [1, 2], "f", RecordsError) == (1, 2)
    with pytest.raises(RecordsError, match=r"f: sizes\[1\] is 'x'"):
        read_as(tuple[int, ...], [1, "x"], "f", RecordsError, at="sizes")
    assert read({**changed(), "inner": "nothing"}, given={"inner": SOUND.inner}).inner == SOUND.inner
