"""Every analysis of a run at once: each saver of a base by itself, all of them together, and between splits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pilotfish.errors import RecordsError, UsageError, nearest
from pilotfish.plan.analysis.breakeven import BreakEven, break_even
from pilotfish.plan.analysis.candidates import candidates, split_tables
from pilotfish.plan.analysis.curves import GainCurve, MatchCurves, gain_curve, match_curves
from pilotfish.plan.analysis.mistakes import MistakeQuantiles, mistake_quantiles
from pilotfish.plan.analysis.noise import TuningNoise, tuning_noise
from pilotfish.plan.analysis.pair import Pair, check_drop, pair_of
from pilotfish.plan.analysis.ranking import FailureRanking, failure_ranking
from pilotfish.plan.analysis.routing import References, references
from pilotfish.plan.analysis.selection import Selection, selection
from pilotfish.plan.analysis.transfer import Transfer, transfers
from pilotfish.plan.holdout import split_rows
from pilotfish.records import Compared, GroupBy, Run, Table
from pilotfish.scores import score as score_of
from pilotfish.scores import to_shown

TRAIN = "train"
ENOUGH = 10_000  # below, r_match is the extreme of a noisy walk (see noise.py)


@dataclass(frozen=True)
class PairAnalysis:
    """One saver with the base. ``curve`` is of all judged samples, ``curves`` of train and validation side by side.

    break_even  None without costs
    curves      None where the saver has no records on the split that savers are chosen on
    transfers   empty where the run has one split
    """

    saver: str
    saver_cost: float | None
    ranking: FailureRanking
    mistakes: MistakeQuantiles
    break_even: BreakEven | None
    noise: TuningNoise
    references: References
    curve: GainCurve
    curves: MatchCurves | None
    transfers: tuple[Transfer, ...]

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return {
            "saver": self.saver,
            "saver_cost": self.saver_cost,
            "ranking": self.ranking.to_json(),
            "mistakes": self.mistakes.to_json(),
            "break_even": None if self.break_even is None else self.break_even.to_json(),
            "noise": self.noise.to_json(),
            "references": self.references.to_json(),
            "curve": self.curve.to_json(),
            "curves": None if self.curves is None else self.curves.to_json(),
            "transfers": [t.to_json() for t in self.transfers],
        }


@dataclass(frozen=True)
class Analysis:
    """All of a base's savers.

    train  the split that savers are chosen on, or None: then it is one half of ``split``, by ``seed``
    pairs  in the order of the selection (best ΔC on train first), then those that it leaves out
    """

    base: str
    split: str
    train: str | None
    cost: str
    score: str
    max_drop: float
    seed: int
    n: int
    reference: str
    base_accuracy: float
    base_cost: float | None
    pairs: tuple[PairAnalysis, ...]
    selection: Selection | None
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The document of ``pilotfish analyse --json``."""
        simple = ("base", "split", "train", "cost", "score", "max_drop", "seed", "n", "reference", "base_accuracy")
        return {
            **{name: getattr(self, name) for name in simple},
            "base_cost": self.base_cost,
            "selection": None if self.selection is None else self.selection.to_json(),
            "savers": [pair.to_json() for pair in self.pairs],
            "notes": list(self.notes),
        }


def analyse(
    run: Run,
    base: str,
    *,
    savers: Sequence[str] | None = None,
    split: str = "val",
    train: str | None = None,
    cost: str = "macs",
    score: str = "max_prob",
    max_drop: float = 0.0,
    draws: int = 200,
    seed: int = 0,
    group_by: GroupBy | None = None,
) -> Analysis:
    """Analyse *savers* (by default all that can be) of *base* on *split*.

    train     split that savers are chosen on; by default ``train`` where the run has it, else a random half of *split*
    max_drop  accuracy that may be lost wherever a threshold is chosen; at 0 the exit ratios are TinySaver's r_match
    draws     bootstrap draws per saver
    group_by  samples that belong together (see :func:`pilotfish.records.groups_by`); None: as recorded
    """
    check_drop(max_drop)
    names, notes = candidates(run, base, split, cost, score, savers)
    on = _train_split(run, base, split, train)
    tables = split_tables(run, base, names, [split, *(s for s in run.splits() if s != split)], group_by)
    here = tables[split].common
    pairs = {name: pair_of(table, name, score, cost) for name, table in tables[split].tables.items()}
    alike = {  # those that are compared with each other, on the same samples
        name: pairs[name] if table is here else pair_of(here, name, score, cost)
        for name, table in tables[split].tables.items()
        if name not in tables[split].short
    }
    chosen_on, judged_on = _train_and_judged(alike, None if on is None else tables[on], score, cost, seed)
    chosen = _selection(chosen_on, judged_on, max_drop, notes)
    ranked = [] if chosen is None else [s.saver for s in chosen.savers]
    found = {}
    for name in [*ranked, *(n for n in names if n not in ranked)]:
        elsewhere = {s: pair_of(t.tables[name], name, score, cost) for s, t in tables.items() if name in t.tables}
        sides = (chosen_on[name], judged_on[name]) if name in chosen_on else None
        found[name] = _one(pairs[name], tables[split].tables[name], sides, elsewhere, max_drop, draws, seed)
    return Analysis(
        base=base,
        split=split,
        train=on,
        cost=cost,
        score=score,
        max_drop=max_drop,
        seed=seed,
        n=len(here),
        reference=here.reference_kind,
        base_accuracy=float(here.quality(base).mean()),
        base_cost=here.meta[base].costs.get(cost),
        pairs=tuple(found.values()),
        selection=chosen,
        notes=(*notes, *_remarks(tables, split, on, cost, base)),
    )


def _one(
    pair: Pair,
    table: Table,
    sides: tuple[Pair, Pair] | None,
    elsewhere: Mapping[str, Pair],
    max_drop: float,
    draws: int,
    seed: int,
) -> PairAnalysis:
    confidence = score_of("max_prob", table.outputs[pair.saver])
    return PairAnalysis(
        saver=pair.saver,
        saver_cost=pair.saver_cost,
        ranking=failure_ranking(pair, to_shown(confidence.scale, confidence.values)),
        mistakes=mistake_quantiles(pair),
        break_even=break_even(pair, max_drop),
        noise=tuning_noise(pair, max_drop, draws, seed),
        references=references(pair),
        curve=gain_curve(pair),
        curves=None if sides is None else match_curves(*sides),
        transfers=transfers(elsewhere, max_drop),
    )


def _train_split(run: Run, base: str, split: str, train: str | None) -> str | None:
    """The split that savers are chosen on; None for a half of *split*."""
    if train is None:
        return TRAIN if split != TRAIN and base in run.models(TRAIN) else None
    if train == split:
        raise UsageError(
            f"savers are chosen on one split and judged on another, and --train and --split are both {split}"
        )
    if base not in run.models(train):
        raise RecordsError(f"{run.path} has no records of {base} on split {train!r}; {nearest(train, run.splits())}")
    return train


def _train_and_judged(
    pairs: Mapping[str, Pair], train: Compared | None, score: str, cost: str, seed: int
) -> tuple[dict[str, Pair], dict[str, Pair]]:
    """The pairs that savers are chosen by, and the same ones to judge by."""
    if train is not None:
        shared = [name for name in pairs if name in train.tables and name not in train.short]
        first = {name: pair_of(train.common, name, score, cost) for name in shared}
        return first, {name: pairs[name] for name in shared}
    one = next(iter(pairs.values()))
    halves = split_rows(len(one), 0.5, seed, one.groups)
    first = {name: pair.take(halves.fit) for name, pair in pairs.items()}
    return first, {name: pair.take(halves.evaluation) for name, pair in pairs.items()}


def _selection(
    chosen_on: Mapping[str, Pair], judged_on: Mapping[str, Pair], max_drop: float, notes: list[str]
) -> Selection | None:
    """The selection among savers whose costs are comparable; *notes* gets who is left out."""
    priced = [name for name, pair in judged_on.items() if pair.cost_ratio is not None]
    names = priced or list(judged_on)
    if left_out := [name for name in judged_on if name not in names]:
        notes.append(f"without a cost, and so not ranked: {', '.join(left_out)}")
    if not names:
        return None
    return selection([chosen_on[name] for name in names], [judged_on[name] for name in names], max_drop)


def _remarks(tables: Mapping[str, Compared], split: str, on: str | None, cost: str, base: str) -> list[str]:
    here = tables[split].common
    remarks = [*tables[split].row_notes(), *tables[split].notes]
    remarks += [f"split {s}: {note}" for s, t in tables.items() if s != split for note in t.short_notes()]
    if here.meta[base].costs.get(cost) is None:
        remarks.append(f"{base} has no cost {cost!r}: no break-even, and savers are ranked by exit ratio")
    if on is None:
        remarks.append(f"one split to choose savers on: split {split} is halved by --seed into train and validation")
    if len(here) < ENOUGH:
        remarks.append(f"{len(here):,} samples: exit ratios at a drop are noisy below {ENOUGH:,}, see the noise table")
    kinds = {s: t.common.reference_kind for s, t in tables.items()}
    if len(set(kinds.values())) > 1:
        unlabelled = ", ".join(s for s, kind in kinds.items() if kind == "base")
        remarks.append(f"split {unlabelled} has no labels: there, accuracy is agreement with the base")
    return remarks
