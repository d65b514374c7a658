"""The counts in the formats of Prometheus and OpenMetrics. Names and units follow their conventions: seconds and
ratios, ``_total`` for counters, and few values per label."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from pilotfish._version import __version__
from pilotfish.serve.report.latencies import BUCKETS
from pilotfish.serve.report.metrics import ALARMS, Causes, Histogram, Meter

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

    from pilotfish.serve.hosted import Hosted

PREFIX = "pilotfish_"
MODEL, STAGE = ("model",), ("model", "stage")
CAUSE = ("model", "cause")
OPENMETRICS = "application/openmetrics-text"


class Exposition:
    """The page at /metrics, with its own registry.

    models       returns the served cascades; called at every scrape
    causes       counts of refusals that concern no cascade
    connections  returns the number of open connections, if known; called at every scrape
    unwritten    returns whether the state file cannot be written, if there is one
    """

    def __init__(
        self,
        models: Callable[[], Iterable[Hosted]],
        causes: Causes,
        connections: Callable[[], int | None] = lambda: None,
        unwritten: Callable[[], bool | None] = lambda: None,
    ) -> None:
        from prometheus_client import CollectorRegistry, ProcessCollector

        self._models, self._causes, self._connections, self._unwritten = models, causes, connections, unwritten
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """The page and its content type: OpenMetrics if *accept*, the request's header, asks for it."""
        from prometheus_client.exposition import choose_encoder

        asked = {media.partition(";")[0].strip().lower() for media in accept.split(",")}
        # the library fails on malformed versions, and claims any version that is asked for
        encode, content_type = choose_encoder(OPENMETRICS if OPENMETRICS in asked else "")
        return encode(self._registry), content_type

    def collect(self) -> Iterator[Metric]:
        """All metrics, as prometheus-client requires."""
        families = _Families()
        families.info("build", "The running version.", (), {"version": __version__})
        if (n := self._connections()) is not None:
            families.gauge("connections", "Open connections, idle ones included.", (), [], n)
        if (unwritten := self._unwritten()) is not None:
            families.gauge("state_unwritten", "1 if the state file cannot be written.", (), [], unwritten)
        _refusals(families, "", self._causes)
        for hosted in self._models():
            _counts(families, hosted.name, hosted.meter)
            _gauges(families, hosted)
            _watched(families, hosted)
        yield from families


class _Families:
    """Metric families in order of first use, each with the samples of all cascades."""

    def __init__(self) -> None:
        self._found: dict[str, Any] = {}

    def __iter__(self) -> Iterator[Metric]:
        return iter(self._found.values())

    def counter(self, name: str, text: str, labels: Sequence[str], values: Sequence[str], value: float) -> None:
        self._family("Counter", name, text, labels).add_metric(values, value)

    def gauge(self, name: str, text: str, labels: Sequence[str], values: Sequence[str], value: float) -> None:
        self._family("Gauge", name, text, labels).add_metric(values, value)

    def info(self, name: str, text: str, values: Sequence[str], facts: dict[str, str]) -> None:
        self._family("Info", name, text, MODEL[: len(values)]).add_metric(values, facts)

    def histogram(
        self, name: str, text: str, values: Sequence[str], bounds: Sequence[float], counts: Iterable[int], total: float
    ) -> None:
        ends = [*map(repr, bounds), "+Inf"]
        buckets = list(zip(ends, accumulate(counts), strict=True))
        self._family("Histogram", name, text, STAGE).add_metric(values, buckets, total)

    def _family(self, kind: str, name: str, text: str, labels: Sequence[str]) -> Any:
        from prometheus_client import metrics_core

        if name not in self._found:
            full = name if name.startswith("nv_") else f"{PREFIX}{name}"
            unit = {} if kind == "Info" or not full.endswith("_seconds") else {"unit": "seconds"}
            make = getattr(metrics_core, f"{kind}MetricFamily")
            self._found[name] = make(full, text, labels=labels, **unit)
        return self._found[name]


def _counts(families: _Families, model: str, meter: Meter) -> None:
    """Add the counters."""

    def counter(name: str, text: str, value: float, **label: str) -> None:
        families.counter(name, text, (*MODEL, *label), [model, *label.values()], value)

    counter("requests", "Accepted requests.", meter.requests)
    counter("inputs", "Inputs of accepted requests.", meter.inputs)
    for outcome, counted in (("answered", meter.succeeded), ("failed", meter.failed)):
        counter("replies", "Replies to requests, by outcome.", counted[0], outcome=outcome)
    for k, stage in enumerate(meter.stages):
        counter("answers", "Inputs answered by a stage.", stage.answered, stage=str(k))
    for k, stage in enumerate(meter.stages[:-1]):
        counter("escalations", "Inputs that a stage escalated to the next.", stage.escalated, stage=str(k))
    _refusals(families, model, meter.causes)
    for flag, n in meter.flags.items():
        counter("flagged_answers", "Answers with a flag.", n, cause=flag)
    for kind, n in meter.alarms.items():
        counter("alarms", "Drift alarms raised.", n, cause=kind)
    counter("operating_point_moves", "Moves of the operating point.", meter.moves)
    for outcome, n in meter.reloads.items():
        counter("reloads", "Reloads of a changed folder, by outcome.", n, outcome=outcome)
    counter("audits", "Exits that the base answered as well.", meter.audits)
    if meter.costs:
        counter("cost", "Cost of all answers and audits, in the unit of the cascade's costs.", meter.spent)
        counter("cost_base_alone", "What the base alone would have cost for the same inputs.", meter.base_alone)
    _histograms(families, model, meter)


def _refusals(families: _Families, model: str, causes: Causes) -> None:
    for cause, n in causes.shed.items():
        text = (
            "Load shed: requests by the causes full, warming and draining; inputs of accepted requests by deadline, "
            "governed, gone and cut_off."
        )
        families.counter("shed", text, CAUSE, [model, cause], n)
    for cause, n in causes.errors.items():
        text = "Errors: inputs by the causes bad_input and model; requests by every other cause."
        families.counter("errors", text, CAUSE, [model, cause], n)


def _histograms(families: _Families, model: str, meter: Meter) -> None:
    for k, (counts, total) in enumerate(meter.answer_seconds()):
        families.histogram(
            "answer_seconds", "Time from the request to its answer, by the stage that answered.", [model, str(k)],
            BUCKETS, counts, total,
        )  # fmt: skip
    parts: list[tuple[str, str, Callable[[Any], Histogram]]] = [
        ("queue_seconds", "Time an input waits at a stage before its batch.", lambda stage: stage.queue),
        ("compute_seconds", "Time a stage takes for a batch.", lambda stage: stage.compute),
        ("batch_inputs", "Inputs in a batch.", lambda stage: stage.sizes),
    ]
    for name, text, part in parts:
        for k, stage in enumerate(meter.stages):
            found = part(stage)
            families.histogram(name, text, [model, str(k)], found.bounds, list(found.counts), found.sum)


def _gauges(families: _Families, hosted: Hosted) -> None:
    """Add the gauges of the current state."""
    model, meter, point = hosted.name, hosted.meter, hosted.point

    def gauge(name: str, text: str, value: float | None, **label: str) -> None:
        if value is not None:
            families.gauge(name, text, (*MODEL, *label), [model, *label.values()], value)

    gauge("ready", "1 if the cascade takes requests.", float(hosted.state == "READY"))
    gauge(
        "inputs_under_way",
        "Accepted inputs without an answer yet, audits included.",
        hosted.engine.under_way,
    )
    depths = hosted.engine.depths()
    for k, depth in enumerate(depths):
        gauge("queue_depth", "Inputs waiting at a stage.", depth.waiting, stage=str(k))
        gauge("queue_oldest_age_seconds", "How long the oldest of them has waited.", depth.oldest, stage=str(k))
        gauge("batches_running", "Batches a stage is computing.", depth.running, stage=str(k))
    families.gauge(
        "nv_inference_pending_request_count", "Waiting inputs, under Triton's name for them.",
        ("model", "version"), [model, hosted.version], sum(depth.waiting for depth in depths),
    )  # fmt: skip
    for k, share in enumerate(meter.exit_ratio() or ()):
        gauge("exit_ratio", "Share of inputs answered by a stage since the operating point moved.", share, stage=str(k))
    found = point.to_json()
    for k, share in enumerate(found["exit_ratio"]):
        gauge("exit_ratio_expected", "The same share on the samples it was tuned on.", share, stage=str(k))
    gauge("cost_saved_ratio", "Share of the base's cost saved since the start.", meter.saved())
    families.info(
        "operating_point", "The operating point in force.", [model],
        {"operating_point": point.id, "cost": hosted.artefact.cost_key or ""},
    )  # fmt: skip
    gauge("operating_point_start_time_seconds", "Unix time at which it came into force.", point.since)
    gauge("operating_point_drop", "Its drop, a fraction, on the samples it was tuned on.", found["drop"])


def _watched(families: _Families, hosted: Hosted) -> None:
    """Add what was learned from traffic at the operating point in force."""
    model, point, governor = hosted.name, hosted.point, hosted.governor

    def gauge(name: str, text: str, value: float | None, **label: str) -> None:
        if value is not None:
            families.gauge(name, text, (*MODEL, *label), [model, *label.values()], value)

    if (drift := point.drift) is not None:
        gauge("exit_ratio_band_low", "Lower end of the expected exit ratio of the first stage.", drift.band.lo)
        gauge("exit_ratio_band_high", "Upper end of the expected exit ratio of the first stage.", drift.band.hi)
        gauge(
            "exit_ratio_lately",
            "Exit ratio of the first stage over the last inputs, at most 1,000.",
            drift.recent.exit_ratio,
        )
        gauge("drift_level", "How close an alarm is; it is raised at 1.", drift.level)
        gauge("score_stability_index", "PSI of the last scores, informative only.", drift.recent.psi)
        raised = None if (alarm := drift.alarm) is None else f"{alarm.kind} {alarm.direction}"
        for kind in ALARMS[:-1]:
            gauge("drift_alarm", "1 if this alarm is in force.", float(kind == raised), cause=kind)
    if (audit := point.audit) is not None:
        gauge("audit_inputs", "Audits at this operating point.", audit.n)
        gauge("audit_disagreement", "Share of audits in which the base disagreed.", audit.disagreement)
        gauge("audit_bound", "Upper bound of the disagreement of exits with the base.", audit.bound)
        gauge(
            "audit_drop_bound", "Upper bound of the disagreement of all answers, and so of the drop.", audit.drop_bound
        )
    if point.shadow is not None:
        found = point.shadow.to_json()
        gauge("shadow_inputs", "Inputs at this operating point in shadow mode.", found["n"])
        gauge("shadow_exit_ratio", "Share of these inputs that would have exited.", found["exit_ratio"])
        gauge("shadow_drop", "Drop of the cascade against the base.", found["drop"])
        gauge("shadow_drop_bound", "Upper bound of that drop.", found["drop_bound"])
        gauge("shadow_saved_ratio", "Share of the base's cost that the cascade would save.", found["saved"])
    if hosted.labels is not None:
        found = hosted.labels.to_json()
        gauge("label_inputs", "Labels at this operating point.", found["n"])
        gauge("label_accuracy", "Share of labelled answers that are right.", found["accuracy"])
        gauge("label_accuracy_bound", "Lower bound of the accuracy, if labels are a random sample.", found["bound"])
    if governor is not None:
        gauge("governor_tokens", "Escalations the governor would allow now.", governor.tokens)
    if (spending := hosted.spending) is not None:
        left = spending.left / spending.per_hour
        gauge("cost_budget_left_ratio", "Share of the hourly cost budget that is left.", left)
