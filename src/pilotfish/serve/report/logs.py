"""Log lines on stderr, one event per line, as text or JSON. Text from clients is escaped and cut, so that no request
can forge a line; bodies and tokens are never written."""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

from pilotfish.serve.report.outlet import Outlet
from pilotfish.text import json_line, one_line

LONGEST = 2000  # characters of one value at most
SELDOM = 1.0  # seconds between two lines of a kind that a fault may repeat for every input
Level = Literal["info", "warning", "error"]


class Log:
    """Writes events.

        log = Log("json")
        log("reload", "birds was loaded again", model="birds")

    form    ``text`` or ``json``
    stream  None: sys.stderr at the time of writing
    access  whether each request is logged
    """

    def __init__(self, form: str = "text", stream: TextIO | None = None, access: bool = False) -> None:
        self.form, self.access = form, access
        self._stream, self._lock = stream, threading.Lock()
        self._outlet: Outlet | None = None
        self._told: dict[str, tuple[float, int]] = {}  # by kind: time of the last line, and lines omitted since

    def __call__(self, event: str, message: str, level: Level = "info", **fields: Any) -> None:
        """Write one line.

        event    a word: ``ready``, ``move``, ``alarm``, ``reload``, ``drain``, ``error``, ``request``
        message  the same for people
        fields   details; None values are omitted
        """
        stream = self._stream or sys.stderr
        if stream is None:  # the process has none
            return
        outlet = self._outlet
        if outlet is None or outlet.stream is not stream:
            outlet = self._outlet = Outlet(stream, self._left_out)
        outlet.write(self._line(event, message, level, fields))

    def settle(self, seconds: float) -> None:
        """Wait up to so many seconds for a slow reader."""
        if self._outlet is not None:
            self._outlet.settle(seconds)

    def _left_out(self, n: int) -> str:
        return self._line("error", f"{n} lines were omitted: the reader of this log is too slow", "error", {})

    def _line(self, event: str, message: str, level: Level, fields: Mapping[str, Any]) -> str:
        known = {key: value for key, value in fields.items() if value is not None}
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        if self.form == "json":
            document = {"time": now, "level": level, "event": event, "message": message, **known}
            return json_line(json.dumps({key: _cut(value) for key, value in document.items()}, ensure_ascii=False))
        if event == "ready":
            return one_line(message)  # scripts wait for it
        parts = [f"{key}={_shown(value)}" for key, value in known.items()]
        return " ".join([now, level, event, *parts, one_line(_cut(message))])

    def seldom(self, kind: str, event: str, message: str, level: Level = "info", **fields: Any) -> None:
        """Like a call, but at most one line per second of each *kind*, of which there are few; ``left_out`` is the
        number of lines omitted since the last one."""
        now = time.monotonic()
        with self._lock:
            last, left_out = self._told.get(kind, (-SELDOM, 0))
            is_due = now - last >= SELDOM
            self._told[kind] = (now, 0) if is_due else (last, left_out + 1)
        if is_due:
            self(event, message, level, **fields, left_out=left_out or None)

    def error(self, message: str, error: BaseException, **fields: Any) -> None:
        """Log an error in Pilotfish or a model, and where it was raised."""
        frames = traceback.extract_tb(error.__traceback__)
        where = " < ".join(f"{frame.filename}:{frame.lineno} {frame.name}" for frame in reversed(frames[-8:]))
        self("error", message, "error", **fields, error=f"{type(error).__name__}: {error}", where=where or None)


class Relay(logging.Handler):
    """Logs the records of another library's logger as events."""

    def __init__(self, log: Log) -> None:
        super().__init__()
        self.log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        level: Level = "error" if record.levelno >= logging.ERROR else "warning"
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            self.log.error(record.getMessage(), error, logger=record.name)
        else:
            self.log("library", record.getMessage(), level, logger=record.name)


def relay(name: str, log: Log) -> None:
    """Send warnings and errors of the logger *name* to *log*, and nowhere else."""
    logger = logging.getLogger(name)
    logger.handlers, logger.propagate = [Relay(log)], False
    logger.setLevel(logging.WARNING)


def _cut(value: Any) -> Any:
    if isinstance(value, str):
        return value if len(value) <= LONGEST else f"{value[: LONGEST - 1]}…"
    if isinstance(value, bool | int | float | list | tuple | dict):
        return value
    return _cut(str(value))


def _shown(value: Any) -> str:
    """*value* as it is if it is one plain word, else in quotes."""
    text = json.dumps(_cut(value), ensure_ascii=False)
    plain = isinstance(value, str) and value and not set(value) & set(" =\"'\\") and value.isprintable()
    return one_line(value if plain and len(value) <= LONGEST else text)
