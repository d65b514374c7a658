"""The measured speed, as ``pilotfish bench --json`` writes it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pilotfish.report.format import NOTHING, milliseconds, percent, shorten_all
from pilotfish.report.html import Markup, row, table, tag


def bench_section(bench: Mapping[str, Any], stages: Sequence[str], precisions: Sequence[str] = ()) -> Markup:
    """A table of stage times, ideal, realised and efficiency; what the document lacks shows as a dash.

    precisions  what each stage computes in, where that differs
    """
    listed = bench.get("parts")
    parts = [part is True for part in listed] if isinstance(listed, list | tuple) else []
    how = ["after the one before" if part else "alone" for part in (parts + [False] * len(stages))[: len(stages)]]
    short = shorten_all(stages)
    named = [f"{short[name]} {said}" for name, said in zip(stages, how, strict=True)]
    head = ["", *named, "ideal", "realised", "efficiency"]
    rows = [
        row(_cells(label, bench[key], len(stages)), first="th")
        for label, key in (("model only", "model_only"), ("end to end", "end_to_end"))
        if isinstance(bench.get(key), Mapping)
    ]
    if precisions:
        rows.insert(0, row(["precision", *precisions, *[NOTHING] * 3], first="th"))
    facts = [("speed-up", _times(bench.get("speedup"))), ("exit ratio", _ratios(bench.get("exit_ratio")))]
    if decoding := _decoding(bench.get("decode_share")):
        facts.append(("decoding", decoding))
    facts.append(("machine", brief(bench.get("machine"))))
    return tag(
        "section",
        tag("h2", "Measured speed"),
        table(head, rows) if rows else "",
        *_requests(bench.get("single"), stages),
        tag(
            "p",
            "Milliseconds per input. Ideal is what the stages' own best times allow at this exit ratio; efficiency is "
            "ideal over realised, 1 is perfect. The speed-up is the base alone over the cascade, end to end.",
            class_="small",
        ),
        tag("dl", *(part for key, value in facts for part in (tag("dt", key), tag("dd", value)))),
    )


def brief_machine(machine: Mapping[str, Any]) -> str:
    """Device, cores and versions in a line."""
    where = machine.get("gpu") or f"{machine.get('processor', 'unknown')}, {machine.get('cores', '?')} cores"
    versions = [f"{name} {machine[name]}" for name in ("onnxruntime", "torch") if machine.get(name)]
    return ", ".join([str(where), *versions])


def number(value: object) -> float | None:
    """A finite number, or None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def brief(value: object, most: int = 240) -> str:
    """A JSON value in a line: "decoder pillow, crop 0.875, …"."""
    if isinstance(value, Mapping):
        text = ", ".join(f"{key} {brief(inner)}" for key, inner in value.items() if inner is not None)
    elif isinstance(value, list | tuple):
        text = "(" + ", ".join(brief(inner) for inner in value) + ")"
    elif isinstance(value, float):
        text = f"{value:.6g}"
    else:
        text = NOTHING if value is None else str(value)
    return text if len(text) <= most else text[: most - 1] + "…"


def _cells(label: str, times: Mapping[str, Any], stages: int) -> list[str]:
    listed = times.get("stages_ms")
    alone = [milliseconds(number(t)) for t in listed] if isinstance(listed, list | tuple) else []
    efficiency = number(times.get("efficiency"))
    return [
        label,
        *(alone + [NOTHING] * stages)[:stages],
        milliseconds(number(times.get("ideal_ms"))),
        milliseconds(number(times.get("realised_ms"))),
        NOTHING if efficiency is None else f"{efficiency:.3f}",
    ]


def _requests(single: object, stages: Sequence[str]) -> list[Markup]:
    """Percentiles of requests one at a time; nothing where the document has none."""
    short = shorten_all(stages)
    named = (("saver", f"{short[stages[0]]} alone"), ("base", f"{short[stages[-1]]} alone"), ("cascade", "cascade"))
    if not isinstance(single, Mapping) or not all(isinstance(single.get(key), Mapping) for key, _ in named):
        return []
    rows = [
        row([name, *(milliseconds(number(single[key].get(p))) for p in ("p50", "p95", "p99"))], first="th")
        for key, name in named
    ]
    said = (
        "Milliseconds of a request, one at a time with every core at work on it, from its file to its answer: half of "
        f"{brief(single.get('n'))} requests, 95 % and 99 % of them were answered within these."
    )
    return [table(["one request at a time", "p50", "p95", "p99"], rows), tag("p", said, class_="small")]


def _decoding(shares: object) -> str | None:
    """What inputs take of the processor's time; None where the document does not say."""
    named = shares if isinstance(shares, Mapping) else {}
    said = [
        f"{milliseconds(number(one.get('ms')))}, {percent(number(one.get('share')), 1)} of the {of}"
        for of, one in (("cascade's processor time", named.get("cascade")), ("base's alone", named.get("base")))
        if isinstance(one, Mapping)
    ]
    return "; ".join(said) or None


def _times(value: object) -> str:
    known = number(value)
    return NOTHING if known is None else f"{known:.2f}×"


def _ratios(value: object) -> str:
    listed = value if isinstance(value, list | tuple) else [value]
    return " / ".join(percent(number(r), 1) for r in listed)
