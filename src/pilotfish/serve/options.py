"""How a server is set up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from math import inf
from pathlib import Path
from typing import Any, Literal

from pilotfish.errors import UsageError

MIB = 1 << 20
DAY = 86_400.0  # seconds: nothing waits longer
LONGEST_QUEUE = 1_000_000  # a place takes some 200 bytes, and an input as many as it has
LONGEST_RUN = 1e15  # inputs: more than any server sees


@dataclass(frozen=True)
class Limits:
    """What one request, and all of them together, may take.

    body             bytes of a body as it is sent; decompressed: of one that came compressed
    items            inputs in a request
    header_bytes     of all headers of a request, its first line included
    request_seconds  to send a request, headers and body
    in_flight        bytes of the bodies that are being answered, of all requests together
    connections      that one peer may have open
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
                raise UsageError(f"the limit {each.name} is a number above 0; found {getattr(self, each.name)!r}")
        if self.in_flight < 2 * self.body:  # of which one client may have half
            raise UsageError(
                f"the limit in_flight must be twice the limit body or more, or the largest bodies are never taken; "
                f"found {self.in_flight:,} and {self.body:,}"
            )


@dataclass(frozen=True)
class ServeOptions:
    """How a server answers, and what it watches.

    host, port        where it listens; port 0 takes any that is free
    tokens            by token, the name of the client who has it; without any nobody may change anything
    max_wait_ms       how long the oldest input of a stage waits for a full batch
    queue             inputs that may be under way in a cascade; those beyond are refused with 503
    timeout           seconds for an answer; None: as many as it takes
    shadow            whether the base answers everybody, and the cascade is counted beside it
    audit             share of the exits that go to the base as well, to compare
    escalation_rate   inputs a second that may go on to the base, for all clients together; None: any number
    escalation_burst  of them at once; None: as many as in a second, and one at least
    client_escalation_rate, client_escalation_burst   the same for each client; None: a client may have all of them
    max_cost_per_hour  in the unit of the cascade's cost; the operating point moves along the frontier to hold it
    drift_average_run  inputs between two false alarms of drift, on average at least; 0: nothing is watched
    when_empty        what the governor does without a token: ``flag`` gives the saver's answer, ``reject`` refuses
    when_base_fails   what an input gets that the base cannot compute: ``fail`` an error, ``flag`` the saver's answer
    unsure_below      a reliability below which answers are flagged ``unsure``, the base's as well; None: none is
    state             a file that keeps audits, alarms and the operating point over restarts
    trusted_proxy     whether clients are told apart by the X-Forwarded-For header
    drain_delay       seconds that a server which was told to end goes on as before, but not ready
    drain_limit       seconds that it then waits for what it accepted
    reload            whether a cascade folder that changes is loaded again
    access_log        whether every request is logged
    log_format        ``text``, or ``json``: one object a line
    device            ``cpu``, ``cuda``, …
    allow_python      ``python:`` models that the folders may run
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
            ("max_wait_ms", 0 <= self.max_wait_ms <= 1000 * DAY, "milliseconds from 0 to a day"),
            ("queue", 1 <= self.queue <= LONGEST_QUEUE, f"a number from 1 to {LONGEST_QUEUE:,}"),
            ("timeout", self.timeout is None or 0 < self.timeout <= DAY, "seconds, more than 0 and a day at most"),
            ("audit", 0 <= self.audit <= 1, "a share from 0 to 1"),
            ("escalation_rate", self.escalation_rate is None or 0 <= self.escalation_rate < inf, "0 or more a second"),
            ("escalation_burst", self.escalation_burst is None or 1 <= self.escalation_burst < inf, "1 or more"),
            (
                "client_escalation_rate",
                self.client_escalation_rate is None or 0 <= self.client_escalation_rate < inf,
                "0 or more a second",
            ),
            (
                "client_escalation_burst",
                self.client_escalation_burst is None or 1 <= self.client_escalation_burst < inf,
                "1 or more",
            ),
            (
                "max_cost_per_hour",
                self.max_cost_per_hour is None or 0 < self.max_cost_per_hour < inf,
                "a cost, more than 0",
            ),
            (
                "drift_average_run",
                self.drift_average_run == 0 or 1 < self.drift_average_run <= LONGEST_RUN,
                f"a number of inputs above 1, {LONGEST_RUN:g} at most, or 0",
            ),
            ("unsure_below", self.unsure_below is None or 0 < self.unsure_below <= 1, "a confidence from 0 to 1"),
            ("drain_delay", 0 <= self.drain_delay <= DAY, "seconds from 0 to a day"),
            ("drain_limit", 0 <= self.drain_limit <= DAY, "seconds from 0 to a day"),
        ]
        found: Any
        for name, fine, expected in checks:
            if not fine:  # NaN is not fine either
                found = getattr(self, name)
                raise UsageError(f"{name} is {expected}; found {found!r}", [name])
        for name, other in (
            ("escalation_burst", "escalation_rate"),
            ("client_escalation_rate", "escalation_rate"),
            ("client_escalation_burst", "client_escalation_rate"),
            ("when_empty", "escalation_rate"),
        ):
            if getattr(self, name) not in (None, "flag") and getattr(self, other) is None:
                raise UsageError(
                    f"{name} goes with {other}, how many escalations a second are allowed; give both", [name, other]
                )
        if self.timeout is not None and self.max_wait_ms >= 1000 * self.timeout:
            raise UsageError(
                f"max_wait_ms must be shorter than timeout, or a lone request is never answered; found "
                f"{self.max_wait_ms:g} ms and {self.timeout:g} s",
                ["max_wait_ms", "timeout"],
            )
