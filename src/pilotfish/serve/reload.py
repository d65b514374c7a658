"""Watches cascade folders for changes while they are served."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pilotfish.serve.threads import in_thread

if TYPE_CHECKING:
    from pilotfish.serve.hosted import Hosted

EVERY = 1.0  # seconds between two checks
Told = Callable[["Hosted", Exception | None], None]
Files = tuple[tuple[str, int, int, int], ...]


async def watch(models: Sequence[Hosted], tell: Told) -> None:
    """Load a folder again once its files have changed and stayed the same between two checks.

    tell  called for every cascade that was loaded again, with None, or with the error that prevented it, such as a
          missing folder; then the old cascade stays in use
    """
    loaded = {hosted.name: hosted.files for hosted in models}  # it may have changed during the warm-up
    seen = dict(loaded)
    while True:
        await asyncio.sleep(EVERY)
        for hosted in models:
            now, before = files_of(hosted.folder), seen[hosted.name]
            seen[hosted.name] = now
            if now != before or now == loaded[hosted.name]:
                continue
            loaded[hosted.name] = now
            try:
                await in_thread(hosted.reload)
                tell(hosted, None)
            except Exception as error:
                tell(hosted, error)


def files_of(folder: Path) -> Files:
    """Name, inode, size and time of the files in a folder; empty if it does not exist."""
    try:
        with os.scandir(folder) as entries:
            stats = [(entry.name, entry.stat()) for entry in entries if entry.is_file()]
    except OSError:
        return ()
    if not any(name == "cascade.json" for name, _ in stats):
        return ()
    return tuple(sorted((name, found.st_ino, found.st_size, found.st_mtime_ns) for name, found in stats))
