"""``pilotfish train router``: a network that foretells whether the saver suffices (TinySaver, section 3.1)."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pilotfish.data import Dataset
from pilotfish.data.subset import Subset
from pilotfish.errors import DataError, RecordsError, UsageError, nearest
from pilotfish.models.exits.router import KINDS, Judging, PriorRouter, Router, evaluator
from pilotfish.models.names.architectures import build_backbone, checked_arguments
from pilotfish.recording import RecordOptions, RecordResult, record
from pilotfish.records import Run, read_table
from pilotfish.train.backbone import find_backbone
from pilotfish.train.given import checked
from pilotfish.train.loop import Job, Tell, Trained
from pilotfish.train.recipe import Recipe, load_recipe
from pilotfish.train.training import check_network, make_job, train_network, with_records

ANSWERS = "answers"  # folder of what saver and base say of the training samples
ENCODER = "small:convnet"


@checked
def train_router(
    saver: str,
    base: str,
    data: str | Dataset,
    out: str | Path,
    *,
    kind: str = "evaluator",
    encoder: str = ENCODER,
    arguments: Mapping[str, Any] | None = None,
    width: int = 64,
    recipe: Recipe | None = None,
    held_out: str | Dataset | None = None,
    run: str | Path | Run | None = None,
    name: str = "router",
    seed: int = 0,
    device: str = "cpu",
    progress: Tell | None = None,
) -> Trained:
    """Train a router for *saver* and *base*, and record the saver with the router's confidence.

    saver      a trained model, by name as in :func:`train_exits`
    kind       ``prior``: an *encoder* of its own, built fresh with *arguments*, sees the inputs; ``evaluator``: a head
               of *width* hidden units sees the saver's last features
    base       any model that can be recorded; only its answers matter
    data       samples that the saver was **not** trained on: of its own training samples it is right almost always,
               and there is nothing to learn

    The rest as in :func:`train_exits`. The saver suffices where it is right or the base is wrong: then nothing is lost
    by its answer. Records under *name* hold ``head_macs``, the router's own cost; the base's, of the same samples,
    stand beside them. A prior router that runs *before* the saver spares it where the base is called (Eq. 2), see
    :func:`pilotfish.plan.analysis.breakeven.router_cost`.
    """
    if kind not in KINDS:
        raise UsageError(f"unknown router {kind!r}; {nearest(kind, KINDS)}")
    settings = recipe or load_recipe("router")
    if not settings.freeze or settings.loss != "sum" or settings.mixup or settings.cutmix:
        raise UsageError('a router is trained with loss = "sum", freeze = true, and without mixup and cutmix')
    job = make_job(data, held_out, out, settings, seed, device, progress, run, name)
    own = find_backbone(saver, job.data)
    torch.manual_seed(seed)
    network: Router
    if kind == "prior":
        chosen = dict(checked_arguments(arguments or {}))
        if encoder.startswith("small:"):
            chosen = {"side": own.input_shape[-1], "width": 8, **chosen}
        network = PriorRouter(own.module, build_backbone(encoder, chosen, 2))
        description = own.described("router", backbone=encoder, arguments=chosen, saver=own.part)
    else:
        network = evaluator(own.module, own.input_shape, width)
        description = own.described("router", saver=own.part, joint={"width": width})
    check_network(network, description, job.data.spec)  # before the answers, which take a while
    training, judged = job.parts()
    theirs = _recorded(job, judged, _plain(base))
    labels = [_suffices(job, part, split, saver, base) for part, split in ((training, "train"), (judged, "val"))]
    learned, tried = Subset(training, relabelled=labels[0]), Subset(judged, relabelled=labels[1])
    judging = dataclasses.replace(job, data=learned, held_out=tried)
    identity = [description.to_json(), own.weights_hash]
    shares = [float((part == 1).sum() / max(1, (part >= 0).sum())) for part in labels]
    more, saver_parts = {"saver_suffices": shares, **own.facts}, list(network.saver())
    trained = train_network(judging, Judging(network), description, saver_parts, identity, network, more)
    found = with_records(dataclasses.replace(job, held_out=judged), trained)
    return dataclasses.replace(found, records=(*found.records, *theirs))


def _recorded(job: Job, judged: Dataset, base: str) -> list[RecordResult]:
    """The base's records on the held-out samples, which the router's are compared with; none without a run."""
    if job.run is None:
        return []
    if job.name == base:
        raise UsageError(f"the router cannot be called {base} like its base; name it with --as")
    try:
        return record(judged, base, job.run, options=RecordOptions(device=job.device), progress=job.tell)
    except RecordsError as error:
        raise UsageError(
            f"{job.run.path} holds records of {base} of other samples or weights than the router is judged on "
            f"({judged.spec}); give its samples as --val, or name another --run"
        ) from error


def _suffices(job: Job, data: Dataset, split: str, saver: str, base: str) -> np.ndarray[Any, np.dtype[np.int64]]:
    """int64 (N,): 1 where the saver suffices, 0 where the base is needed, -1 without a label or an answer."""
    run = Run(job.out / ANSWERS)
    for model, alias in ((saver, "saver"), (base, "base")):
        settings = RecordOptions(split=split, device=job.device, timing=False)
        try:
            record(data, _plain(model), run, alias=alias, options=settings, progress=job.tell)
        except RecordsError as error:
            raise UsageError(
                f"{run.path} holds answers of other models or samples; name another folder with --out"
            ) from error
    table = read_table(run, ["saver"], "base", split, group_by="none")  # every sample of the data is trained on
    right = {name: table.outputs[name].prediction == table.reference for name in ("saver", "base")}
    found = np.full(len(data), -1, np.int64)
    place = {key: i for i, key in enumerate(data.ids)}
    found[[place[key] for key in table.ids.to_pylist()]] = (right["saver"] | ~right["base"]).astype(np.int64)
    if split == "train" and not (found == 0).any():
        raise DataError(
            f"the saver suffices for all {len(found)} samples of {data.spec}: nothing to learn; train a router on "
            "samples that the saver was not trained on"
        )
    return found


def _plain(model: str) -> str:
    """The last exit of a network with exits, its backbone's own answer, where none is named."""
    if not model.startswith("exits:") or re.search(r"#\d+$", model):
        return model
    from pilotfish.models.exits.exit_model import exit_names

    return exit_names(model)[-1]
