"""Work in a process of its own, item by item: what ends it or never returns costs one item, not the answer."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Protocol

from pilotfish.errors import reason


class Report(Protocol):
    """How work says where it is: an item alone when it begins, with what was found when it is done."""

    def __call__(self, item: str, *found: Any) -> None: ...


PROGRAM = """
import sys
sys.path.insert(0, {root!r})
from {module} import {name}
from pilotfish.doctor.apart import serve
del sys.path[0]
serve({name})
"""


def apart(
    work: Callable[[Sequence[str], Report], None],
    items: Sequence[str],
    until: float,
    tell: Callable[[int], None] = lambda _: None,
) -> tuple[dict[str, Any], dict[str, str]]:
    """Do *work*, a function of a module, on *items* in another Python.

    until  the time (``time.monotonic()``) at which it is given up
    tell   is told how many items are done

    Returns what was found by item, and why others failed by item. When the process ends before its time, the item that
    it was at has failed, and those that are left are done by another one. Items in neither were not done in time,
    or no other Python could be started.
    """
    found: dict[str, Any] = {}
    failed: dict[str, str] = {}
    while left := [item for item in items if item not in found and item not in failed]:
        at = left[0]
        try:
            with _started(work, left) as (process, errors):
                for item, *values in _lines(process, until):
                    at = item
                    if values:
                        found[item] = values[0]
                        tell(len(found) + len(failed))
                if time.monotonic() >= until:
                    break
                ended = _ended(process.wait(), errors)
        except OSError:
            break
        if at not in found:
            failed[at] = ended
    return found, failed


def serve(work: Callable[[Sequence[str], Report], None]) -> None:
    """In the other Python: do *work* on the items on stdin. What libraries print goes nowhere."""
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # it sends word of each import; OpenVINO does without
    items = json.load(sys.stdin)
    told = os.fdopen(os.dup(1), "w", encoding="utf-8")
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)

    def report(item: str, *found: Any) -> None:
        told.write(json.dumps([item, *found]) + "\n")
        told.flush()

    work(items, report)
    told.flush()
    os._exit(0)  # libraries that fail as they are left are not asked


@contextlib.contextmanager
def _started(work: Callable[..., None], items: Sequence[str]) -> Iterator[tuple[subprocess.Popen[str], IO[str]]]:
    root = str(Path(__file__).parents[2])
    program = PROGRAM.format(root=root, module=work.__module__, name=work.__name__)
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors:
        process = subprocess.Popen(
            [sys.executable or "python3", "-P", "-c", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            encoding="utf-8",
            errors="replace",
        )
        try:
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError), process.stdin as stdin:
                stdin.write(json.dumps(list(items)))
            yield process, errors
        finally:
            process.kill()
            process.wait()


def _lines(process: subprocess.Popen[str], until: float) -> Iterator[list[Any]]:
    """What the process reports, until it ends or its time is over."""
    heard: queue.Queue[str | None] = queue.Queue()

    def listen() -> None:
        assert process.stdout is not None
        with process.stdout as stdout:
            for line in stdout:
                heard.put(line)
        heard.put(None)

    threading.Thread(target=listen, daemon=True).start()
    with contextlib.suppress(queue.Empty):
        while (line := heard.get(timeout=max(0.0, until - time.monotonic()))) is not None:
            yield json.loads(line)


def _ended(code: int, errors: IO[str]) -> str:
    if code < 0:
        return f"it ended Python with {signal.Signals(-code).name}"
    errors.seek(0)
    last = errors.read().strip().rpartition("\n")[2]
    return f"it ended Python with exit code {code}{last and f': {reason(Exception(last))}'}"
