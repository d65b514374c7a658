"""Numbers as people read them."""

from __future__ import annotations

import math

import pytest

from pilotfish.report.format import (
    capital,
    cost_name,
    cost_number,
    cost_unit,
    format_cost,
    format_count,
    format_threshold,
    milliseconds,
    percent,
    plain_points,
    points,
    short_hash,
    shorten,
    shorten_all,
    signed_percent,
)


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("macs", 390_000_000, "0.39 GMACs"),
        ("macs", 114.92e9, "114.92 GMACs"),
        ("macs", 1.234e12, "1,234.00 GMACs"),
        ("macs", 650_000, "0.65 MMACs"),
        ("macs", 120, "120 MACs"),
        ("params", 5.3e6, "5.30 M params"),
        ("ms", 1.234, "1.23 ms"),
        ("ms@cpu-b8", 0.0456, "0.046 ms"),
        ("usd", 60.0, "60 usd"),
        ("macs", 0.0, "0 MACs"),
        ("macs", None, "–"),
        (None, 1.0, "–"),
    ],
)
def test_cost(key: str | None, value: float | None, text: str) -> None:
    assert format_cost(key, value) == text


def test_a_column_has_one_unit() -> None:
    unit = cost_unit("macs", 5.2e9)
    assert unit.name == "GMACs"
    assert [cost_number(v, unit) for v in (5.2e9, 3.9e8, 6.5e5, None)] == ["5.20", "0.39", "0.00065", "–"]


@pytest.mark.parametrize(
    ("threshold", "text"),
    [
        (0.87654, "0.8765"),
        (math.inf, "∞ (nobody exits)"),
        (-math.inf, "−∞ (everybody exits)"),
        (0.99995, "0.99995"),
        (0.9999999, "0.9999999"),
        (1 - 2e-12, "1−2e-12"),
        (1.0, "1.0000"),
        (-0.5, "−0.5000"),
        (12345.678, "12,345.7"),
        (None, "–"),
        (math.nan, "–"),
    ],
)
def test_threshold_never_rounds_to_one(threshold: float | None, text: str) -> None:
    assert format_threshold(threshold) == text


def test_shares() -> None:
    assert percent(0.95931) == "95.93%"
    assert percent(0.5, 0) == "50%"
    assert percent(None) == "–"
    assert signed_percent(-0.55318) == "−55.32%"
    assert signed_percent(0.0123) == "+1.23%"
    assert points(0.0012) == "0.12 points"
    assert points(-0.0012) == "−0.12 points"
    assert plain_points(-0.000001) == "0.00"
    assert format_count(10000) == "10,000"
    assert milliseconds(1234.5) == "1,234.50 ms"


def test_names() -> None:
    assert cost_name("macs") == "MACs"
    assert cost_name("ms@cpu-b8") == "time at cpu-b8"
    assert short_hash("sha256:" + "0123456789abcdef") == "0123456789ab"
    assert short_hash(None) == "–"
    assert shorten("short") == "short"
    long = shorten("a" * 30 + "b" * 30, 20)
    assert len(long) == 20
    assert long.startswith("aaa")
    assert long.endswith("bbb")
    assert "…" in long


@pytest.mark.parametrize(
    "names",
    [
        ["a", "b"],
        [f"lite:efficientnet_lite{k}@224?dtype={to}" for k in range(3) for to in ("bf16", "fp16", "fp32")],
        [f"onnx:models/{folder}/quantised-int8.onnx" for folder in ("resnet50", "resnet18", "convnext")],
        ["a" * 20 + c + "a" * 40 for c in "bcd"],
        ["x" * 28, "x" * 29, "x" * 60, "x" * 61],
    ],
)
def test_short_names_are_as_distinct_as_long_ones(names: list[str]) -> None:
    short = shorten_all(names, 28)
    assert list(short) == names
    assert len(set(short.values())) == len(names)
    assert all(len(one) <= len(name) for name, one in short.items())
    assert all(
        one == name or ("…" in one and one[:3] == name[:3] and one[-3:] == name[-3:]) for name, one in short.items()
    )


@pytest.mark.parametrize(
    ("text", "heading"),
    [("accuracy", "Accuracy"), ("micro F1", "Micro F1"), ("mAP", "mAP"), ("mIoU", "mIoU"), ("AP50", "AP50"), ("", "")],
)
def test_a_heading_keeps_how_a_metric_is_written(text: str, heading: str) -> None:
    assert capital(text) == heading
