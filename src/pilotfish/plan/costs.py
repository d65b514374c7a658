"""What stages cost: independent models add up, exits of one network share the work before them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from pilotfish.errors import RecordsError
from pilotfish.records import RecordsMeta, Table


def stage_costs(table: Table, stages: Sequence[str], cost_key: str | None) -> list[float] | None:
    """What running each stage adds, by *cost_key*, for a sample that came through the stages before it; or None when
    a stage does not have that cost.

    For an exit of the same network as the stage before it, this is the difference between the two, plus the head that
    was passed. RecordsError when exits of one network are not in rising order.
    """
    if cost_key is None or not all(cost_key in table.meta[name].costs for name in stages):
        return None
    metas = [table.meta[name] for name in stages]
    return [_added(metas[k - 1] if k else None, meta, cost_key) for k, meta in enumerate(metas)]


def base_cost(table: Table, base: str, cost_key: str | None) -> float | None:
    """Cost of the base run alone: for the last exit of an exit sequence, without the saver."""
    return None if cost_key is None else _alone(table.meta[base], cost_key)


def common_keys(metas: Mapping[str, RecordsMeta], stages: Sequence[str]) -> list[str]:
    """Cost keys that all stages have and that are costs of running (not sizes), sorted."""
    shared = set.intersection(*(set(metas[name].costs) for name in stages))
    return sorted(key for key in shared if key != "params" and not key.startswith(("head_", "alone_")))


def backbone_of(meta: RecordsMeta) -> tuple[str, int] | None:
    """(network, position) of an exit ``NAME#k``; None for a whole model."""
    if meta.backbone is not None and meta.position is not None:
        return meta.backbone, meta.position
    named = re.fullmatch(r"(.+)#(\d+)", meta.model)
    return (named[1], int(named[2])) if named else None


def delta_cost(metas: Mapping[str, RecordsMeta], saver: str, base: str, key: str, exit_ratio: float) -> float | None:
    """ΔC, the change of the mean cost as a share of the base's: C_S / C_B - r for whole models (TinySaver Eq. 10).

    An exit of the base's own network adds only its head, and saves only what comes after it. The first exit of an exit
    sequence is a saver like others, but for what the base's exits read of it.
    """
    c_s, through, alone = metas[saver].costs.get(key), metas[base].costs.get(key), _alone(metas[base], key)
    if c_s is None or not through or not alone:
        return None
    own, theirs = backbone_of(metas[saver]), backbone_of(metas[base])
    shared = own is not None and theirs is not None and own[0] == theirs[0]
    trunk = c_s - metas[saver].costs.get(f"head_{key}", 0.0) if shared else 0.0
    return (c_s + (1 - exit_ratio) * (through - trunk)) / alone - 1


def _alone(meta: RecordsMeta, key: str) -> float | None:
    return meta.costs.get(f"alone_{key}", meta.costs.get(key))


def _added(before: RecordsMeta | None, meta: RecordsMeta, key: str) -> float:
    cost = meta.costs[key]
    if before is None:
        return cost
    shared, own = backbone_of(before), backbone_of(meta)
    if shared is None or own is None or shared[0] != own[0]:
        return cost
    if shared[1] >= own[1]:
        raise RecordsError(
            f"{meta.model} comes after {before.model} in the cascade and before it in the network; "
            "name the exits in rising order"
        )
    added = cost - (before.costs[key] - before.costs.get(f"head_{key}", 0.0))
    if added < 0 and key.startswith("ms"):
        return 0.0  # times are measured, exit by exit
    if added < 0:
        raise RecordsError(
            f"{key} of {meta.model} ({cost:g}) is below that of {before.model} ({before.costs[key]:g}); "
            "an exit's cost is cumulative, through that exit with its own head"
        )
    return added
