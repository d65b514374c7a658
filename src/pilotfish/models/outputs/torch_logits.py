"""The logits of a torch module that returns something else: several outputs, probabilities, one column."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from pilotfish.models.outputs.activation import HALF_STEP, OUTSIDE, SATURATED, SMALL, TINY
from pilotfish.models.outputs.which_output import Output, named, output_of, pick

SOFTMAX = (torch.softmax, torch.Tensor.softmax, functional.softmax, torch.special.softmax)
LOG_SOFTMAX = (torch.log_softmax, torch.Tensor.log_softmax, functional.log_softmax, torch.special.log_softmax)
SIGMOID = (torch.sigmoid, torch.Tensor.sigmoid, functional.sigmoid, torch.special.expit)
EXP, LOG = (torch.exp, torch.Tensor.exp), (torch.log, torch.Tensor.log)
KINDS: dict[Any, str] = {
    **dict.fromkeys(SOFTMAX, "softmax"),
    **dict.fromkeys(LOG_SOFTMAX, "log_softmax"),
    **dict.fromkeys(SIGMOID, "sigmoid"),
}
THROUGH = {  # what moves numbers and does not change them
    getattr(owner, name)
    for owner, names in (
        (torch, ("reshape", "flatten", "squeeze", "unsqueeze", "clone", "detach")),
        (
            torch.Tensor,
            ("reshape", "view", "flatten", "squeeze", "unsqueeze", "clone", "detach", "contiguous", "to", "float"),
        ),
        (torch.Tensor, ("double", "half", "bfloat16", "cpu", "type_as")),
    )
    for name in names
}


class Endings(TorchFunctionMode):
    """While it is in force, remembers of what each softmax or sigmoid was made, as long as its result is alive."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: dict[int, tuple[weakref.ref[torch.Tensor], str, torch.Tensor]] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        options = kwargs or {}
        found = func(*args, **options)
        if not isinstance(found, torch.Tensor):
            return found
        given = args[0] if args else options.get("input")
        if func in KINDS:
            if _is_of_classes(func, args, options, given):
                self._keep(found, KINDS[func], given)
        elif func in EXP or func in LOG or func in THROUGH:
            before = self.before(given)
            if before is None:
                return found
            kind, z = before
            if func in THROUGH:
                self._keep(found, kind, func(z, *args[1:], **options))
            elif (kind, func in EXP) in (("log_softmax", True), ("softmax", False)):
                self._keep(found, "softmax" if func in EXP else "log_softmax", z)
        return found

    def before(self, tensor: Any) -> tuple[str, torch.Tensor] | None:
        """(kind, the numbers before) where *tensor* came out of an activation."""
        entry = self._seen.get(id(tensor))
        return entry[1:] if entry is not None and entry[0]() is tensor else None

    def _keep(self, found: torch.Tensor, kind: str, z: Any) -> None:
        # those of attention are many, and large
        self._seen = {key: entry for key, entry in self._seen.items() if entry[0]() is not None}
        self._seen[id(found)] = (weakref.ref(found), kind, z)


def _is_of_classes(func: Any, args: Any, options: Any, given: Any) -> bool:
    if func in SIGMOID:
        return True
    dim = options.get("dim", args[1] if len(args) > 1 else None)
    return dim is None or dim % max(given.ndim, 1) != 0


class LogitsOf(nn.Module):
    """A module whose forward gives logits float (N, C), C >= 2, of one output of *module*; see ``activation``.

    output      key, field or place of the output; None where there is one only
    activation  of ``activation.ACTIVATIONS``; None and ``none``: logits as they are
    """

    def __init__(self, module: nn.Module, output: str | None, activation: str | None, where: str) -> None:
        super().__init__()
        self.module, self.output, self.activation, self.where = module, output, activation, where

    @property
    def watches(self) -> bool:
        """Whether forward looks for the numbers before an activation."""
        return self.activation in ("softmax", "sigmoid")

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Logits (N, C) of inputs (N, …)."""
        if not self.watches:
            found = pick(self.module(inputs), self.output, len(inputs), self.where)
            return _two(_flat(found)) if _columns(found) == 1 else _flat(found)
        with Endings() as endings:
            found = pick(self.module(inputs), self.output, len(inputs), self.where)
            before = endings.before(found)
        one = _columns(found) == 1
        if before is not None and before[0] == self.activation:
            z = _flat(before[1])
            return _two(z) if one else z if self.activation == "softmax" else _log_sigmoid(z.double()).float()
        p = _flat(found).double()
        if one:
            return _two((_log(p, TINY) - _log(1 - p, HALF_STEP)).float())
        return _log(p, TINY).float()

    def extra_repr(self) -> str:
        """Part of what an exported file is found by."""
        return f"output={self.output}, read_before={self.activation}"


def torch_outputs(run: Callable[[], Any], rows: int) -> list[Output]:
    """What *run*, a call of a module, returns, with the activation that each output came out of."""
    with Endings() as endings:
        found = run()
        pairs = named(found, rows)
        known = [endings.before(value) for _, value in pairs]
    return [
        output_of(name, value, None if ending is None else ending[0])
        for (name, value), ending in zip(pairs, known, strict=True)
    ]


def _columns(found: torch.Tensor) -> int:
    return 1 if found.ndim == 1 else int(found.shape[1:].numel())


def _flat(found: torch.Tensor) -> torch.Tensor:
    return found if found.ndim == 2 else found.reshape(-1, _columns(found))


def _two(z: torch.Tensor) -> torch.Tensor:
    return torch.cat([torch.zeros_like(z), z], dim=1)


def _log(p: torch.Tensor, least: float) -> torch.Tensor:
    return torch.log(torch.clamp(p, min=least)) + 0.0 * torch.sqrt((p + OUTSIDE) * (1 + OUTSIDE - p))


def _log_sigmoid(z: torch.Tensor) -> torch.Tensor:
    """min(z, 0) - log(1 + e), e = exp(-|z|): e - e^2 / 2 where e is small beside 1, and beyond z = 80, where float32
    would lose it, what falls as 1 / z does."""
    size = torch.abs(z)
    e = torch.exp(-size)
    lost = torch.where(e < SMALL, e - e * e / 2, torch.log(1.0 + e))
    return torch.clamp(z, max=0.0) - torch.maximum(lost, SATURATED / torch.clamp(size, min=1.0))
