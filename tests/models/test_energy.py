"""Energy counters: what is read, and how a counter that wraps around is followed."""

from __future__ import annotations

from pathlib import Path

import pytest

from pilotfish.runtime.energy import find_meters, total_joules


def package(root: Path, name: str, microjoules: int, wraps: int = 1_000_000) -> Path:
    folder = root / name
    folder.mkdir(parents=True)
    (folder / "name").write_text(f"{name.replace('intel-rapl:', 'package-')}\n")
    (folder / "energy_uj").write_text(f"{microjoules}\n")
    (folder / "max_energy_range_uj").write_text(f"{wraps}\n")
    return folder


def test_packages_are_summed_and_their_parts_are_not(tmp_path: Path) -> None:
    package(tmp_path, "intel-rapl:0", 300_000)
    package(tmp_path, "intel-rapl:1", 500_000)
    package(tmp_path, "intel-rapl:0:0", 900_000)  # a part of package 0
    package(tmp_path, "dtpm", 100)
    meters = find_meters(root=tmp_path)
    assert [meter.name for meter in meters] == ["package-0", "package-1"]
    assert total_joules(meters) == pytest.approx(0.8)


def test_a_counter_that_wraps_around_goes_on_rising(tmp_path: Path) -> None:
    folder = package(tmp_path, "intel-rapl:0", 900_000)
    (meter,) = find_meters(root=tmp_path)
    seen = []
    for microjoules in (950_000, 100_000, 600_000, 50_000):
        (folder / "energy_uj").write_text(str(microjoules))
        seen.append(meter.joules())
    assert seen == pytest.approx([0.95, 1.1, 1.6, 2.05])


def test_no_counter_is_no_meter(tmp_path: Path) -> None:
    assert find_meters(root=tmp_path / "none") == ()
    (package(tmp_path, "intel-rapl:0", 1) / "energy_uj").write_text("denied")
    assert find_meters(root=tmp_path) == ()
