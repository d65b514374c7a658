"""The counts in the form of Triton's statistics extension."""

from __future__ import annotations

from typing import Any

from pilotfish.serve.report.metrics import Meter


def model_statistics(name: str, version: str, meter: Meter) -> dict[str, Any]:
    """One entry of ``{"model_stats": […]}``.

    ``success`` and ``fail`` count requests, with the time from reading one to its answers. ``queue`` and
    ``compute_infer`` count inputs, with the time each waited and its batches took, over all stages.
    ``execution_count`` and ``batch_stats`` cover the batches of all stages.
    """
    with meter.lock:
        answered = sum(stage.answered for stage in meter.stages)
        batches = sorted((size, counts[0], counts[1]) for size, counts in meter.batches.items())
        durations = {
            "success": _duration(*meter.succeeded),
            "fail": _duration(*meter.failed),
            "queue": _duration(answered, meter.queue_seconds),
            "compute_input": _duration(answered, 0.0),  # decoding is overlapped and part of the wait
            "compute_infer": _duration(answered, meter.input_seconds),
            "compute_output": _duration(answered, 0.0),
            "cache_hit": _duration(0, 0.0),
            "cache_miss": _duration(0, 0.0),
        }
        last = meter.last
    none = _duration(0, 0.0)
    return {
        "name": name,
        "version": version,
        "last_inference": round(last * 1000),
        "inference_count": answered,
        "execution_count": sum(count for _, count, _ in batches),
        "inference_stats": durations,
        "batch_stats": [
            {
                "batch_size": size,
                "compute_input": {**none, "count": count},
                "compute_infer": _duration(count, seconds),
                "compute_output": {**none, "count": count},
            }
            for size, count, seconds in batches
        ],
    }


def _duration(count: float, seconds: float) -> dict[str, int]:
    return {"count": int(count), "ns": round(seconds * 1e9)}
