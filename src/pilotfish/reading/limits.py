"""Sizes that files claim, held to what the machine has before anything is read."""

from __future__ import annotations

from pathlib import Path

from pilotfish.errors import PilotfishError

LARGE = 2**30
"""Bytes up to which a file may unpack to anything."""
MOST_TIMES = 200
"""How many times its packed size anything larger may have: arrays of numbers shrink some 2 to 20 times."""
FALLBACK = 16 * 2**30


def available_memory() -> int:
    """Bytes that can be allocated now: what the system has left, and no more than the control group allows."""
    found = FALLBACK
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                found = int(line.split()[1]) * 1024
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
        if limit != "max":
            found = min(found, max(int(limit) - used, 0))
    except (OSError, ValueError, IndexError):  # another system, or no control group
        pass
    return found


def check_size(where: str, claimed: int, packed: int | None, error: type[PilotfishError]) -> None:
    """Refuse what would unpack beyond the memory there is, or like a decompression bomb.

    claimed  bytes once it is read
    packed   bytes that it takes in the file, where it is compressed
    """
    if packed is not None and claimed > LARGE and claimed > MOST_TIMES * max(packed, 1):
        raise error(
            f"{where} would unpack from {packed:,} to {claimed:,} bytes, over {MOST_TIMES} times as many (a "
            "decompression bomb?); store it uncompressed if it is meant"
        )
    if claimed > (free := available_memory()):
        raise error(
            f"{where} claims {claimed:,} bytes, and more than the memory there is ({free:,} bytes); is the file "
            "damaged? If it is meant, split it or use a larger machine"
        )
