"""Energy counters, if the machine has readable ones."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

POWERCAP = Path("/sys/class/powercap")


class Meter(Protocol):
    """A monotonic counter."""

    @property
    def name(self) -> str:
        """What is metered: ``package-0``, ``gpu-0``."""
        ...

    def joules(self) -> float:
        """Joules since some fixed moment; use differences."""
        ...


@dataclass
class RaplMeter:
    """A processor package's counter under ``/sys/class/powercap``, which wraps around."""

    folder: Path
    name: str
    wraps_at: float
    last: float
    turns: int = 0

    @classmethod
    def at(cls, folder: Path) -> RaplMeter:
        """The counter in *folder*; OSError or ValueError when it cannot be read."""
        wraps = float((folder / "max_energy_range_uj").read_text()) / 1e6
        name = (folder / "name").read_text().strip()
        return cls(folder, name, wraps, float((folder / "energy_uj").read_text()) / 1e6)

    def joules(self) -> float:
        """Joules since the counter was zero; must be read at least once per wrap (minutes)."""
        now = float((self.folder / "energy_uj").read_text()) / 1e6
        self.turns += now < self.last
        self.last = now
        return now + self.turns * self.wraps_at


@dataclass(frozen=True)
class NvmlMeter:
    """The energy counter of an NVIDIA GPU (Volta or newer), through the package ``nvidia-ml-py``."""

    index: int

    @property
    def name(self) -> str:
        """``gpu-0``, …"""
        return f"gpu-{self.index}"

    def joules(self) -> float:
        """Joules since the driver was loaded."""
        import pynvml

        handle = pynvml.nvmlDeviceGetHandleByIndex(self.index)
        return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1000


def find_meters(device: str = "cpu", root: Path = POWERCAP) -> tuple[Meter, ...]:
    """The counters of the machine's processors, and of the GPU if *device* is one; empty if none can be read."""
    meters: list[Meter] = []
    for folder in sorted(root.glob("intel-rapl:[0-9]*")) if root.is_dir() else []:
        if folder.name.count(":") == 1:  # a whole package; its parts are counted in it
            try:
                meters.append(RaplMeter.at(folder))
            except (OSError, ValueError):  # only root may read it since 2020
                continue
    if device.startswith("cuda") and importlib.util.find_spec("pynvml"):
        try:
            import pynvml

            pynvml.nvmlInit()
            meter = NvmlMeter(int(device.partition(":")[2] or 0))
            meter.joules()
            meters.append(meter)
        except Exception:  # NVML has error classes of its own for each thing a driver may lack
            pass
    return tuple(meters)


def total_joules(meters: Sequence[Meter]) -> float:
    """The sum over *meters*."""
    return sum(meter.joules() for meter in meters)
