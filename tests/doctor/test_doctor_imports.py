"""What modules say of the machine, told by stand-ins for cards that are not there."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from pilotfish.doctor.imports import FACTS, try_imports

H100 = SimpleNamespace(name="NVIDIA H100 80GB HBM3", total_memory=79 * 2**30, major=9, minor=0)
A10 = SimpleNamespace(name="NVIDIA A10", total_memory=22 * 2**30, major=8, minor=6)
GTX = SimpleNamespace(name="GTX 980", total_memory=4 * 2**30, major=5, minor=2)
NEXT = SimpleNamespace(name="Next", total_memory=2**40, major=13, minor=1)


def torch_with(cards: Sequence[Any], built: Sequence[str], hip: str | None = None, warning: str = "") -> Any:
    """A torch that sees *cards* and has kernels for the architectures *built*."""

    def is_available() -> bool:
        if warning:
            warnings.warn(warning, stacklevel=1)
        return bool(cards)

    cuda = SimpleNamespace(
        is_available=is_available,
        device_count=lambda: len(cards),
        get_arch_list=lambda: list(built),
        get_device_properties=lambda k: cards[k],
    )
    return SimpleNamespace(cuda=cuda, version=SimpleNamespace(cuda=None if hip else "13.0", hip=hip))


@pytest.mark.parametrize(
    ("card", "built", "runs"),
    [
        (H100, ["sm_80", "sm_90a", "compute_120"], True),
        (A10, ["sm_80"], True),
        (A10, ["sm_89", "sm_90"], False),
        (GTX, ["sm_75", "sm_80", "sm_120"], False),
        (NEXT, ["sm_90", "sm_120"], False),
        (NEXT, ["sm_90", "compute_120"], True),
        (H100, [], True),
    ],
)
def test_cards_that_torch_has_no_kernels_for(card: Any, built: list[str], runs: bool) -> None:
    found = FACTS["torch"](torch_with([card], built))
    capability = f"capability {card.major}.{card.minor}"
    assert found["unfit"] == ([] if runs else [f"{card.name} ({capability})"])
    assert found["devices"] == [f"cuda:0, {card.name}, {card.total_memory // 2**30} GiB, {capability}"]


def test_cards_are_numbered_and_those_of_others_are_not_doubted() -> None:
    found = FACTS["torch"](torch_with([H100, A10], ["gfx90a", "gfx942"], hip="6.4"))
    assert [device.partition(",")[0] for device in found["devices"]] == ["cuda:0", "cuda:1"]
    assert (found["unfit"], found["hip"]) == ([], "6.4")


def test_why_torch_sees_no_card() -> None:
    found = FACTS["torch"](torch_with([], [], warning="The NVIDIA driver\non your system is too old"))
    assert (found["devices"], found["why"]) == ([], "The NVIDIA driver on your system is too old")


@pytest.mark.parametrize("error", [RuntimeError("CUDA error: unknown"), AttributeError("no cuda"), ValueError("a\nb")])
def test_what_cannot_be_asked_works_all_the_same(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: Any) -> Any:
        raise error

    monkeypatch.setitem(FACTS, "json", fails)
    told: list[Any] = []
    try_imports(["json"], lambda *said: told.append(said))
    [_, (_, found)] = told
    assert found["fault"] is None
    assert found["facts"]["error"].startswith(f"{type(error).__name__}: ")
    assert "\n" not in found["facts"]["error"]
