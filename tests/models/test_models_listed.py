"""The names that ``pilotfish models`` lists: kept, for their packages take seconds to import, and never stale."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pilotfish.models import list_models
from pilotfish.models.names import known_names
from pilotfish.models.names.spec import KINDS


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A cache of its own, and packages of version 1 that list ``a`` and ``b``; ``calls`` are the lists made."""
    monkeypatch.setenv("PILOTFISH_CACHE", str(tmp_path / "cache"))
    said: dict[str, Any] = {"calls": [], "version": "1", "names": ["a", "b"]}

    def lister(reference: str) -> Callable[[], list[str]]:
        def listed() -> list[str]:
            said["calls"].append(reference)
            return [*said["names"]]

        return listed

    monkeypatch.setattr(known_names, "imported", lister)
    monkeypatch.setattr(known_names, "_installed", lambda package: said["version"])
    return said


def test_a_list_is_made_once_for_each_version_of_its_package(asked: dict[str, Any]) -> None:
    first = list_models("timm:")
    assert first == list_models("timm:") == ["timm:a", "timm:b"]
    assert asked["calls"] == [KINDS["timm"].lister]
    asked |= {"version": "2", "names": ["a", "c"]}
    assert list_models("timm:") == list_models("timm:") == ["timm:a", "timm:c"]
    assert len(asked["calls"]) == 2


def test_a_kind_that_is_named_is_the_only_one_listed(asked: dict[str, Any]) -> None:
    assert list_models("torchvision:*") == ["torchvision:a", "torchvision:b"]
    assert asked["calls"] == [KINDS["torchvision"].lister]
    assert {name.partition(":")[0] for name in list_models("a")} == {kind for kind in KINDS if KINDS[kind].lister}


@pytest.mark.parametrize(
    "found",
    [
        "",
        "[]",
        '{"timm": 3}',
        '{"timm": {"of": "1 names.timm_models:pretrained", "names": [1]}}',
        '{"timm": {"of": "1"}}',
    ],
)
def test_a_damaged_cache_is_made_anew(asked: dict[str, Any], found: str, tmp_path: Path) -> None:
    list_models("lite:")
    (tmp_path / "cache").mkdir(exist_ok=True, mode=0o700)
    (tmp_path / "cache" / known_names.FILE).write_text(found)
    assert list_models("timm:") == ["timm:a", "timm:b"]
    kept = json.loads((tmp_path / "cache" / known_names.FILE).read_text())
    assert kept["timm"] == {"of": "1 names.timm_models:pretrained", "names": ["a", "b"]}


@pytest.mark.parametrize("how", ["not installed", "others may write"])
def test_what_cannot_be_trusted_is_not_kept(asked: dict[str, Any], how: str, tmp_path: Path) -> None:
    list_models("timm:")
    if how == "not installed":
        asked["version"] = None
    else:
        (tmp_path / "cache").chmod(0o777)
    asked["names"] = ["d"]
    assert list_models("timm:") == ["timm:d"]


def test_what_is_kept_is_what_the_packages_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timm = pytest.importorskip("timm")
    monkeypatch.setenv("PILOTFISH_CACHE", str(tmp_path / "cache"))
    names = [f"timm:{name}" for name in timm.list_models(pretrained=True)]
    assert list_models("timm:") == names
    monkeypatch.setattr(known_names, "imported", None)  # nothing is imported any more
    assert list_models("timm:") == names
