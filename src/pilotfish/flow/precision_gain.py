"""What precision gains: the variants side by side, and the cascade beside the best one that computes in float32."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pilotfish.flow.best_cascade import SingleModel
from pilotfish.machine import processor
from pilotfish.models.dtypes import SHORT
from pilotfish.plan import Tuning
from pilotfish.records import RecordsMeta, Run, fair_table
from pilotfish.runtime import BenchResult
from pilotfish.runtime.peers import PeerTimes
from pilotfish.runtime.spread import Spread
from pilotfish.text import listed

LITTLE = 1.05  # as fast again: less is noise
FLOAT32_PAIR = "best float32 pair"  # among the peers of a cascade of precisions


@dataclass(frozen=True)
class Float32Pair:
    """The best saver and base in float32 at the budget of a cascade of precisions, and what it takes beside it."""

    tuning: Tuning
    times: PeerTimes

    @property
    def stages(self) -> tuple[str, ...]:
        """Names of saver and base."""
        return tuple(stage.name for stage in self.tuning.artefact.stages)

    @classmethod
    def of(cls, tuning: Tuning, timed: BenchResult) -> Float32Pair:
        """*tuning* with its times among those that *timed* has beside the cascade; those of the cascade where that is
        the pair itself."""
        times = next((peer for peer in timed.peers if peer.name == FLOAT32_PAIR), None)
        if times is None:
            same = Spread(1.0, 1.0, 1.0)
            times = PeerTimes(FLOAT32_PAIR, timed.model_only.realised_ms, timed.end_to_end.realised_ms, same, same)
        return cls(tuning, times)

    @property
    def times_faster(self) -> dict[str, Spread | None]:
        """How often faster the cascade is, models only and from file to answer, turn by turn."""
        return {"model_only": self.times.model_only_ratio, "end_to_end": self.times.end_to_end_ratio}

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        tuned = self.tuning.to_json()
        kept = ("stages", "thresholds", "calibration", "evaluation", "guarantee", "costs")
        return {
            **{key: tuned[key] for key in kept},
            "bench": self.times.to_json(),
            "times_faster": {part: spread and spread.median for part, spread in self.times_faster.items()},
        }


def computes_in(meta: RecordsMeta) -> str:
    """The dtype that a model's records are of; float32 where they do not say."""
    return str((meta.preprocessing or {}).get("dtype", "float32"))


def of_precisions(
    run: Run, singles: Sequence[SingleModel], sources: Mapping[str, str], split: str
) -> tuple[SingleModel, ...]:
    """*singles* with their precision, and their agreement with the records that *sources* names as those in float32."""
    found = []
    for one in singles:
        records = run.read(one.name, split)
        agreement = None
        source = sources.get(one.name)
        if source is not None and records.task.classes:
            table, _ = fair_table([records, run.read(source, split)])
            mine, theirs = (table.outputs[name].prediction for name in (one.name, source))
            agreement = float(np.mean(mine == theirs))
        found.append(dataclasses.replace(one, precision=computes_in(records.meta), agreement=agreement))
    return tuple(found)


def gain_notes(
    singles: Sequence[SingleModel], sources: Mapping[str, str], chosen: Tuning, precisions: Sequence[str]
) -> list[str]:
    """A line for each precision that the cascade does without: that it is no faster here, or why its speed does not
    help; and one where no sample reaches the base."""
    by_name = {one.name: one for one in singles}
    stages, exits = [stage.name for stage in chosen.artefact.stages], chosen.calibration.exit_ratio
    used = {by_name[name].precision for name in stages}
    notes = []
    if exits[-1] == 0 and max(exits) < 1:
        shorter = " → ".join(stages[:-1])
        notes.append(f"no sample it was chosen on reaches {stages[-1]}: {shorter} without it would do")
    for precision in (one for one in precisions if one not in used):
        pairs = [(one, by_name[sources[one.name]]) for one in singles if one.precision == precision]
        gains = {(a.name, b.name): b.cost / a.cost for a, b in pairs if a.cost and b.cost}
        if not gains:
            continue
        (name, source), most = max(gains.items(), key=lambda item: item[1])
        short, mine, theirs = SHORT.get(precision, precision), by_name[name].cost, by_name[source].cost
        if most < LITTLE:
            has = {"int8": processor().vnni, "bfloat16": processor().bf16}.get(precision, True)
            lack = "" if has else f"; this processor ({processor().name}) has no instructions for it"
            notes.append(f"{short} gains nothing here: {name} takes {mine:.3g} ms, {source} {theirs:.3g} ms{lack}")
            continue
        agreed = max((one.agreement for one, _ in pairs if one.agreement is not None), default=None)
        said = "" if agreed is None else f" (at most {100 * agreed:.1f}% of its answers are those of float32)"
        notes.append(
            f"{short} is up to {most:.1f}x as fast as float32 here ({name}), and no cascade with it costs less than "
            f"{listed(stages[:-1])} before {stages[-1]} at this budget{said}"
        )
    return notes
