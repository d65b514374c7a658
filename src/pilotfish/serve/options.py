"""The options of a server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from math import inf
from pathlib import Path
from typing import Any, Literal

from pilotfish.errors import UsageError

MIB = 1 << 20
DAY = 86_400.0  # seconds; the longest wait
LONGEST_QUEUE = 1_000_000  # each place takes about 200 bytes, plus its input
LONGEST_RUN = 1e15  # inputs; more than any server sees


@dataclass(frozen=True)
class Limits:
    """Limits per request, and for all requests together.

    body             bytes of a body as sent
    decompressed     bytes of a compressed body after decompression
    items            inputs per request
    header_bytes     bytes of all headers of a request, including the first line
    request_seconds  seconds to send a request, headers and body
    in_flight        bytes of all bodies that are being answered
    connections      open connections per peer
    """

    body: int = 32 * MIB
    decompressed: int = 64 * MIB
    items: int = 128
    header_bytes: int = 64 << 10
    request_seconds: float = 30.0
    in_flight: int = 512 * MIB
    connections: int = 512

    def __post_init__(self) -> None:
        for each in fields(self):
            if not getattr(self, each.name) > 0:
                raise UsageError(f"the limit {each.name} must be above 0; found {getattr(self, each.name)!r}")
        if self.in_flight < 2 * self.body:  # one client may use half
            raise UsageError(
                f"the limit in_flight must be at least twice the limit body, or the largest bodies never fit; "
                f"found {self.in_flight:,} and {self.body:,}"
            )


@dataclass(frozen=True)
class ServeOptions:
    """How a server answers, and what it monitors.

    host, port          where it listens; port 0 picks a free port
    tokens              client names by token, required to change settings; without any, nobody can
    max_wait_ms         how long the oldest input of a stage waits for a full batch
    queue               inputs under way per cascade; more are refused with 503
    timeout             seconds for an answer; None: no limit
    shadow              whether the base answers every input, and the cascade runs beside it
    audit               share of exits that the base answers as well, for comparison
    escalation_rate     inputs per second that may go on to the base, for all clients together; None: no limit
    escalation_burst    how many of them at once; None: those of one second, at least one
    client_escalation_rate, client_escalation_burst  the same per client; None: no limit per client
    max_cost_per_hour   in the cascade's unit of cost; the operating point moves along the frontier to keep it
    drift_average_run   mean number of inputs between two false drift alarms, at least; 0: no drift alarm
    when_empty          beyond the rate of escalations: ``flag`` returns the saver's answer, ``reject`` refuses with 503
    when_base_fails     if the base cannot compute an input: ``fail`` returns an error, ``flag`` the saver's answer
    unsure_below        answers less reliable than this, including the base's, are flagged ``unsure``; None: none are
    state               a file that keeps audits, labels, alarms and the operating point across restarts
    trusted_proxy       whether the X-Forwarded-For header identifies clients
    drain_delay         seconds to keep answering after a signal to end, while not ready
    drain_limit         seconds to then wait for accepted requests
    reload              whether a cascade folder is loaded again when it changes
    access_log          whether to log every request
    log_format          ``text``, or ``json`` for one object per line
    device              ``cpu``, ``cuda``, …
    allow_python        ``python:`` models that the folders may run
    """

    host: str = "127.0.0.1"
    port: int = 8000
    tokens: Mapping[str, str] = field(default_factory=dict, repr=False)
    max_wait_ms: float = 0.0
    queue: int = 1024
    timeout: float | None = None
    shadow: bool = False
    audit: float = 0.0
    escalation_rate: float | None = None
    escalation_burst: float | None = None
    client_escalation_rate: float | None = None
    client_escalation_burst: float | None = None
    max_cost_per_hour: float | None = None
    drift_average_run: float = 1e6
    when_empty: Literal["flag", "reject"] = "flag"
    when_base_fails: Literal["fail", "flag"] = "fail"
    unsure_below: float | None = None
    state: Path | None = None
    trusted_proxy: bool = False
    drain_delay: float = 0.0
    drain_limit: float = 30.0
    reload: bool = True
    access_log: bool = False
    log_format: Literal["text", "json"] = "text"
    device: str = "cpu"
    allow_python: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        checks: list[tuple[str, bool, str]] = [
            ("port", 0 <= self.port < 65536, "a number from 0 to 65535"),
            ("max_wait_ms", 0 <= self.max_wait_ms <= 1000 * DAY, "a number of milliseconds from 0 to a day"),
            ("queue", 1 <= self.queue <= LONGEST_QUEUE, f"a number from 1 to {LONGEST_QUEUE:,}"),
            (
                "timeout",
                self.timeout is None or 0 < self.timeout <= DAY,
                "a number of seconds above 0 and at most a day",
            ),
            ("audit", 0 <= self.audit <= 1, "a share from 0 to 1"),
            (
                "escalation_rate",
                self.escalation_rate is None or 0 <= self.escalation_rate < inf,
                "a number per second, 0 or more",
            ),
            ("escalation_burst", self.escalation_burst is None or 1 <= self.escalation_burst < inf, "1 or more"),
            (
                "client_escalation_rate",
                self.client_escalation_rate is None or 0 <= self.client_escalation_rate < inf,
                "a number per second, 0 or more",
            ),
            (
                "client_escalation_burst",
                self.client_escalation_burst is None or 1 <= self.client_escalation_burst < inf,
                "1 or more",
            ),
            (
                "max_cost_per_hour",
                self.max_cost_per_hour is None or 0 < self.max_cost_per_hour < inf,
                "a cost above 0",
            ),
            (
                "drift_average_run",
                self.drift_average_run == 0 or 1 < self.drift_average_run <= LONGEST_RUN,
                f"a number of inputs above 1 and at most {LONGEST_RUN:g}, or 0",
            ),
            ("unsure_below", self.unsure_below is None or 0 < self.unsure_below <= 1, "a number above 0 and at most 1"),
            ("drain_delay", 0 <= self.drain_delay <= DAY, "a number of seconds from 0 to a day"),
            ("drain_limit", 0 <= self.drain_limit <= DAY, "a number of seconds from 0 to a day"),
        ]
        found: Any
        for name, fine, expected in checks:
            if not fine:  # also for NaN
                found = getattr(self, name)
                raise UsageError(f"{name} must be {expected}; found {found!r}", [name])
        for name, other in (
            ("escalation_burst", "escalation_rate"),
            ("client_escalation_rate", "escalation_rate"),
            ("client_escalation_burst", "client_escalation_rate"),
            ("when_empty", "escalation_rate"),
        ):
            if getattr(self, name) not in (None, "flag") and getattr(self, other) is None:
                raise UsageError(
                    f"{name} needs {other}, the number of escalations allowed per second; give both", [name, other]
                )
        if self.timeout is not None and self.max_wait_ms >= 1000 * self.timeout:
            raise UsageError(
                f"max_wait_ms must be less than timeout, or a lone request is never answered in time; found "
                f"{self.max_wait_ms:g} ms and {self.timeout:g} s",
                ["max_wait_ms", "timeout"],
            )
