"""Weights into a network: the set and the prefix that fit its own names, the class count of the head, and what is said
of it."""

from __future__ import annotations

import contextlib
import math
import re
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pilotfish.errors import ModelError
from pilotfish.models.names.spec import ModelSpec
from pilotfish.models.names.weights_file import WeightsFile, read_weights
from pilotfish.text import examples, quantity

if TYPE_CHECKING:
    import torch

EMA = re.compile(r"(^|[._])(ema|averaged)([._]|$)")
AVERAGED = ("state_dict_ema", "model_ema")  # in timm's order
KNOWN = ("state_dict", "model", "model_state_dict", "model_state", "net", "network", "weights", "module", "params", "")
AUXILIARY = re.compile(r"^(aux\d*|AuxLogits|aux_classifier|aux_head)\.")  # heads that help a training and never answer
COUNTERS = re.compile(r"(^|\.)(num_batches_tracked|n_averaged|total_ops|total_params)$")
LOSSES = re.compile(r"^(criterion|\w*loss(_fn)?|\w*metrics?|\w*accuracy)\.")
HEAD = re.compile(r"(^|\.)(heads?|head_dist|fc|classifier|last_linear)\.")
AUXILIARY_HEADS = ("aux1", "aux2", "AuxLogits", "aux_classifier")
PARTS = 100
"""Parameters that a network may have for each tensor of its file: one that is a million layers deep takes hours."""
SMALL = 2**27
"""Weights that a network may always have, whatever file it is built for."""


@dataclass(frozen=True)
class _Fit:
    """How the tensors behind one prefix of one set fit a network. Names are the network's own.

    missing  needed and not there; extra: there and not known; beside: names in the set that are not behind the prefix
    """

    where: str
    prefix: str
    state: Mapping[str, torch.Tensor]
    missing: tuple[str, ...]
    extra: tuple[str, ...]
    beside: tuple[str, ...]

    @property
    def label(self) -> str:
        return ".".join(part for part in (self.where, self.prefix.rstrip(".")) if part)

    @property
    def averaged(self) -> bool:
        return bool(EMA.search(self.label))

    @property
    def rank(self) -> int:
        """Averaged weights first, as timm has it, then the usual containers in order."""
        if self.averaged:
            return AVERAGED.index(self.where) - 100 if self.where in AVERAGED else -50
        first = self.where.partition(".")[0]
        return KNOWN.index(first) if first in KNOWN else len(KNOWN)


def asked_weights(
    spec: ModelSpec, given: Path | WeightsFile | None, usual: str, own: Collection[str]
) -> str | WeightsFile:
    """The weights that the name of a library's model asks for with ``?weights=``: one of *own*, or a file, read.

    given  weights that are taken instead; usual: what a name without the option asks for
    """
    source = given or spec.options.get("weights", usual)
    if isinstance(source, WeightsFile) or (isinstance(source, str) and source in own):
        return source
    return read_weights(Path(source))


def load_from(
    file: WeightsFile, build: Callable[[int | None], torch.nn.Module], classes: int | None = None
) -> tuple[torch.nn.Module, tuple[str, ...]]:
    """The network of *build* with the weights in *file*, and what the user should know of the choice.

    build    from a number of classes, or None for the architecture's own, to a network
    classes  what the user asked for; None: as many as the head in the file has

    ModelError where no set of tensors fits, or the head has another number of classes than was asked for.
    """
    with held_to(file):
        module = build(classes)
    state, notes = _chosen(module, file)
    found = _other_classes(module, state, classes)
    if found is not None and classes is not None:
        raise ModelError(
            f"{file.path}: its head has {found} classes and num_classes={classes} was asked for; leave num_classes "
            f"out, or write num_classes={found}"
        )
    if found is not None:
        with held_to(file):
            module = build(found)
    _put(module, state, str(file.path))
    return module, notes


def load_weights(module: torch.nn.Module, file: WeightsFile) -> tuple[str, ...]:
    """Put the weights in *file* into *module*; returns what the user should know of the choice."""
    state, notes = _chosen(module, file)
    _put(module, state, str(file.path))
    return notes


@contextlib.contextmanager
def held_to(file: WeightsFile) -> Iterator[None]:
    """A network that is built inside, in this thread, has no more weights than *file* could hold, if it is not small.

    Which network, how wide and for how many classes may stand in the file: a kilobyte asks for terabytes. ModelError
    as soon as it is clear, before the memory is touched.
    """
    from torch.nn.modules.module import register_module_parameter_registration_hook

    storages = (t.untyped_storage() for tensors in file.sets.values() for t in tensors.values())
    most = max(SMALL, sum({s.data_ptr(): s.nbytes() for s in storages}.values()))  # a byte each, at least
    parts = PARTS * (8 + sum(map(len, file.sets.values())))
    thread, made, built = threading.get_ident(), 0, 0

    def count(_: Any, __: str, parameter: Any) -> None:
        nonlocal made, built
        if threading.get_ident() == thread and parameter is not None:
            made += parameter.numel()
            built += 1
            if built > parts:
                raise ModelError(
                    f"{file.path}: the network that is named has more than {parts:,} parts with weights, many times "
                    "what the file holds; name the architecture that it was saved from"
                )
            if made > most:
                raise ModelError(
                    f"{file.path}: the network that is named has more than {most:,} weights, and the file cannot hold "
                    "as many; name the architecture that it was saved from"
                )

    handle = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        handle.remove()


def _chosen(module: torch.nn.Module, file: WeightsFile) -> tuple[dict[str, torch.Tensor], tuple[str, ...]]:
    """The tensors that *module* takes, by its own names, and what there is to say."""
    own = module.state_dict()
    passing = {name for name, _ in module.named_buffers()} - own.keys()  # kept by earlier versions of a library
    fits = [fit for where, tensors in file.sets.items() for fit in _fits(own, passing, where, tensors)]
    whole = sorted((fit for fit in fits if not fit.missing and not fit.extra), key=lambda fit: fit.rank)
    if not whole:
        raise ModelError(f"{file.path}: {_misfit(own, file, fits)}")
    best = whole[0]
    others = [fit for fit in whole[1:] if _differ(fit.state, best.state)]
    if others and others[0].rank == best.rank:
        raise ModelError(
            f"{file.path}: {examples([fit.label for fit in (best, *others)])} fit the model alike; save the one that "
            "is meant alone, as .safetensors"
        )
    notes = []
    if others:
        kind = "the averaged weights (EMA), as timm does" if best.averaged else "the usual one"
        held = examples([f"{fit.label or 'weights at its top'}" for fit in others])
        notes.append(f"{file.path}: {best.label or 'the weights at its top'} was taken, {kind}; it also holds {held}")
    if not best.averaged and (left := [fit for fit in fits if fit.averaged]):
        notes.append(
            f"{file.path}: its averaged weights ({left[0].label}) do not fit the model; "
            f"{best.label or 'those at its top'} was taken"
        )
    if best.beside:
        notes.append(
            f"{file.path}: {quantity(len(best.beside), 'tensor')} beside the model's{_behind_text(best)} left out "
            f"({examples(best.beside)})"
        )
    return {name: best.state[name] for name in own if name in best.state}, tuple(notes)


def _fits(own: Mapping[str, Any], passing: set[str], where: str, tensors: Mapping[str, torch.Tensor]) -> list[_Fit]:
    """How *tensors* fit, for each prefix behind which everything is that is needed; else for the likeliest."""
    needed = [name for name in own if not COUNTERS.search(name) and not AUXILIARY.match(name)]
    hits: Counter[str] = Counter()
    for key in tensors:
        parts = key.split(".")
        hits.update(".".join([*parts[:i], ""]) if i else "" for i in range(len(parts)) if ".".join(parts[i:]) in own)
    likely = [p for p, count in hits.most_common() if count >= len(needed)]
    whole = [p for p in likely if all(f"{p}{name}" in tensors for name in needed)]
    likeliest = [p for p, _ in hits.most_common(1)]

    def behind(prefix: str) -> _Fit:
        rivals = tuple(p for p in whole if p != prefix and p.startswith(prefix))
        inside = {k[len(prefix) :]: t for k, t in tensors.items() if k.startswith(prefix) and not k.startswith(rivals)}
        unknown = [k for k in inside if k not in own and k not in passing and not _is_left(k)]
        losses = [k for k in unknown if not prefix and LOSSES.match(k)]
        outside = [k for k in tensors if not k.startswith((prefix, *whole)) and not _is_left(k)]
        return _Fit(
            where=where,
            prefix=prefix,
            state=inside,
            missing=tuple(name for name in needed if name not in inside),
            extra=tuple(k for k in unknown if k not in losses),
            beside=(*outside, *losses),
        )

    return [behind(prefix) for prefix in whole or likeliest]


def _behind_text(fit: _Fit) -> str:
    return f" (behind {fit.prefix!r})" if fit.prefix else ""


def _is_left(name: str) -> bool:
    return bool(COUNTERS.search(name) or AUXILIARY.match(name))


def _misfit(own: Mapping[str, Any], file: WeightsFile, fits: list[_Fit]) -> str:
    """Why nothing fits, and what to do."""
    needed = [name for name in own if not _is_left(name)]
    fit = min(fits, key=lambda fit: (len(fit.missing) + len(fit.extra), fit.rank), default=None)
    if fit is None or len(fit.missing) == len(needed):
        names = max(file.sets.values(), key=len)
        return (
            f"none of its {quantity(len(names), 'tensor')} ({examples(list(names))}) is one of "
            f"the model's {len(needed)} "
            f"({examples(needed)}); name the architecture that it was saved from"
        )
    head = {name for name in needed if HEAD.search(name) or _owner(name) == _owner(needed[-1])}
    if not fit.extra and set(fit.missing) == head:
        return (
            f"it is headless: its classifier ({examples(fit.missing)}) is missing, so it would "
            "return features; use weights that were saved with a classifier"
            + (f" (beside the network: {examples(fit.beside)})" if fit.beside else "")
        )
    lacks = (
        f"lacks {len(fit.missing)} of the model's {quantity(len(own), 'tensor')}{_behind_text(fit)} "
        f"({examples(fit.missing)})"
    )
    has = f"has {quantity(len(fit.extra), 'tensor')} that the model does not know, {examples(fit.extra)}"
    found = [text for text, names in ((lacks, fit.missing), (has, fit.extra)) if names]
    return f"{' and '.join(found)}; name the architecture that it was saved from"


def _other_classes(module: torch.nn.Module, state: Mapping[str, torch.Tensor], asked: int | None) -> int | None:
    """The number of classes of the file's head, where that is all in which the shapes differ; else None."""
    own = module.state_dict()
    differ = [(tuple(own[k].shape), tuple(t.shape)) for k, t in state.items() if own[k].shape != t.shape]
    first = {(mine[:1], theirs[:1]) for mine, theirs in differ}
    if not first or any(mine[1:] != theirs[1:] for mine, theirs in differ) or not all(a and b for a, b in first):
        return None
    expected = asked if asked is not None else getattr(module, "num_classes", None)
    if expected is None:
        return first.pop()[1][0] if len(first) == 1 else None
    # a detector has rows for each class, times the anchors, or the corners of a box
    found = {(theirs * expected // mine, theirs * expected % mine, mine % expected) for (mine,), (theirs,) in first}
    [(classes, *rest)] = found if len(found) == 1 else [(0, 1)]
    return None if any(rest) else classes


def _put(module: torch.nn.Module, state: Mapping[str, torch.Tensor], where: str) -> None:
    for name in AUXILIARY_HEADS:  # without weights of their own they would be drawn anew at every loading
        if getattr(module, name, None) is not None and not any(key.startswith(f"{name}.") for key in state):
            setattr(module, name, None)
    own = module.state_dict()
    for name, tensor in sorted(state.items(), key=lambda item: ("pos" not in item[0], item[0])):
        if tensor.shape != own[name].shape:
            advice = _other_size(module, tensor.shape, own[name].shape) if "pos" in name else ""
            raise ModelError(
                f"{where}: {name} has shape {tuple(tensor.shape)}, the model's has {tuple(own[name].shape)}{advice}"
            )
    module.load_state_dict(dict(state), strict=False)  # but for counters of batches, nothing is missing


def _other_size(module: torch.nn.Module, theirs: Sequence[int], mine: Sequence[int]) -> str:
    """What to do about embeddings of positions for another number of patches: the size that they were trained at, where
    the patches are squares in a square."""
    patch: Any = getattr(getattr(module, "patch_embed", None), "patch_size", getattr(module, "patch_size", None))
    side = patch[0] if isinstance(patch, tuple) else patch
    grids = [(math.isqrt(max(theirs[-2] - k, 0)), math.isqrt(max(mine[-2] - k, 0))) for k in range(6)]
    squares = [a for k, (a, b) in enumerate(grids) if (a * a, b * b) == (theirs[-2] - k, mine[-2] - k) and a and b]
    fixed = isinstance(side, int) and len(theirs) == len(mine) == 3 and len(set(squares)) == 1
    size = f"?size={squares[0] * side}" if fixed else "NAME@SIZE"
    return f"; the weights are of another input size, write {size}"


def _differ(a: Mapping[str, torch.Tensor], b: Mapping[str, torch.Tensor]) -> bool:
    return any(t.shape != b[k].shape or not bool((t == b[k]).all()) for k, t in a.items() if k in b)


def _owner(name: str) -> str:
    return name.rpartition(".")[0]
