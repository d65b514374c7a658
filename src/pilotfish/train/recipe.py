"""How a network is trained: a small file that one can read and change."""

from __future__ import annotations

import dataclasses
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from pilotfish.errors import UsageError, nearest

OPTIMISERS = ("adamw", "sgd")
SCHEDULES = ("cosine", "steps", "constant")
LOSSES = ("sum", "distill", "self_distill", "saver_weighted")
WEIGHTS = ("equal", "linear")
KINDS = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "a word", "tuple": "[numbers]"}
LARGEST = {
    "epochs": 100_000,
    "batch_size": 1_000_000,
    "crop": 1024,
    "mixup": 100,
    "cutmix": 100,
    "weight_decay": 1e6,
    "warm_up_epochs": 100_000,
    "temperature": 1e4,
}


@dataclass(frozen=True)
class Recipe:
    """A training.

    epochs, batch_size, optimiser, learning_rate, weight_decay, momentum (of sgd)
    schedule        of the rate: ``cosine`` to a thousandth, ``steps`` (a tenth after each share of *steps*) or
                    ``constant``
    warm_up_epochs  over which the rate rises to its full
    loss            ``sum`` of the exits' cross-entropies; ``distill`` adds the divergence from the last exit, which is
                    detached; ``self_distill`` from the next exit (Zhang et al., "Be your own teacher", ICCV 2019);
                    ``saver_weighted`` is TinySaver's Eq. 11, of exit sequences: samples weigh 2 (1 - the saver's
                    confidence), and neither the saver nor the last exit is trained
    weights         of the exits in the sum: ``equal``, or ``linear``, growing with depth
    temperature, distillation  of the soft targets, and their share of the loss
    label_smoothing as in torch
    crop, flip      how pictures are varied: moved by up to so many pixels, mirrored
    auto_augment    AutoAugment's ImageNet policy, before that
    mixup, cutmix   alpha of either; 0 is without; with both, one of them by a coin for each batch
    freeze          whether the backbone stays as it is
    amp             mixed precision: bfloat16 where the device has it
    holdout         share of the samples that is never trained on
    """

    epochs: int = 10
    batch_size: int = 128
    optimiser: str = "adamw"
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    momentum: float = 0.9
    schedule: str = "cosine"
    warm_up_epochs: float = 0.0
    steps: tuple[float, ...] = (0.5, 0.75)
    loss: str = "sum"
    weights: str = "equal"
    temperature: float = 3.0
    distillation: float = 0.5
    label_smoothing: float = 0.0
    crop: int = 0
    flip: bool = False
    auto_augment: bool = False
    mixup: float = 0.0
    cutmix: float = 0.0
    freeze: bool = True
    amp: bool = False
    holdout: float = 0.1

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            found = getattr(self, field.name)
            object.__setattr__(self, field.name, _value(field.name, found, "a recipe"))
        for what, value, known in (
            ("optimiser", self.optimiser, OPTIMISERS),
            ("schedule", self.schedule, SCHEDULES),
            ("loss", self.loss, LOSSES),
            ("weights", self.weights, WEIGHTS),
        ):
            if value not in known:
                raise UsageError(f"unknown {what} {value!r} in a recipe; {nearest(value, known)}")
        for what, number, least in (
            ("epochs", self.epochs, 1),
            ("batch_size", self.batch_size, 2),
            ("crop", self.crop, 0),
            ("mixup", self.mixup, 0),
            ("cutmix", self.cutmix, 0),
            ("weight_decay", self.weight_decay, 0),
            ("warm_up_epochs", self.warm_up_epochs, 0),
            ("temperature", self.temperature, 1e-3),
        ):
            if not least <= number <= LARGEST[what]:
                raise UsageError(f"a recipe's {what} is a number from {least:g} to {LARGEST[what]:g}, found {number}")
        if not all(0 < step < 1 for step in self.steps):
            raise UsageError(f"a recipe's steps are shares of the training between 0 and 1, found {list(self.steps)}")
        if not (0 <= self.distillation <= 1 and 0 <= self.label_smoothing < 1 and 0 <= self.momentum < 1):
            raise UsageError(
                "a recipe has distillation from 0 to 1 and label_smoothing and momentum from 0 to below 1; found "
                f"{self.distillation:g}, {self.label_smoothing:g} and {self.momentum:g}"
            )
        if not (0 < self.learning_rate < math.inf and 0 <= self.holdout < 1):
            raise UsageError(
                "a recipe has learning_rate > 0 and 0 <= holdout < 1; found "
                f"{self.learning_rate:g} and {self.holdout:g}"
            )

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return {**dataclasses.asdict(self), "steps": list(self.steps)}


def load_recipe(source: str | Path, changes: Mapping[str, Any] | None = None) -> Recipe:
    """A recipe by the name of one that is shipped (``exits``, ``msdnet``, ``esn``, ``router``) or from a .toml file;
    *changes* replace values of it. UsageError for unknown names and values of another type."""
    if not isinstance(source, str | Path) or not isinstance(changes, Mapping | None):
        raise UsageError(
            f"a recipe is a name or a .toml file, and its changes a mapping; found {source!r}, {changes!r}"
        )
    if isinstance(source, str) and not source.endswith(".toml"):
        shipped = resources.files("pilotfish.train") / "recipes" / f"{source}.toml"
        if not shipped.is_file():
            raise UsageError(f"no recipe {source!r}; expected exits, msdnet, esn, router, or a .toml file")
        text = shipped.read_text(encoding="utf-8")
    else:
        try:
            text = Path(source).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{source}: the recipe cannot be read ({error})") from error
    try:
        values = {**tomllib.loads(text), **(changes or {})}
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{source}: not a TOML file ({str(error)[:200]})") from error
    return Recipe(**{key: _value(key, value, str(source)) for key, value in values.items()})


def parse_changes(pairs: list[str] | None, option: str = "--set") -> dict[str, Any]:
    """``epochs=3``, ``freeze=false`` as values; UsageError for anything else."""
    found = {}
    for pair in pairs or []:
        key, equals, text = pair.partition("=")
        if not equals or len(pair) > 500 or "\n" in pair:
            raise UsageError(f"{option} takes KEY=VALUE, such as epochs=3; found {pair[:60]!r}")
        try:
            found[key.strip()] = tomllib.loads(f"x = {text}")["x"]
        except (ValueError, KeyError, RecursionError):
            found[key.strip()] = text.strip()
    return found


def parse_counts(option: str, text: str) -> list[int]:
    """``8,32`` as whole numbers; UsageError for anything else."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and part.isascii() and len(part) < 6 for part in parts):
        raise UsageError(f"{option} takes whole numbers separated by commas, such as 8,32; found {text!r}")
    return [int(part) for part in parts]


def _value(key: str, value: Any, where: str) -> Any:
    kinds = {field.name: field.type for field in dataclasses.fields(Recipe)}
    if key not in kinds:
        key = str(key)
        raise UsageError(f"{where}: a recipe has no {key!r}; {nearest(key, kinds)}")
    kind = str(kinds[key])
    number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300
    if kind == "int" and number and float(value).is_integer():
        return int(value)
    if kind == "float" and number:
        return float(value)
    if (kind == "bool" and isinstance(value, bool)) or (kind == "str" and isinstance(value, str)):
        return value
    if (
        kind.startswith("tuple")
        and isinstance(value, list | tuple)
        and all(isinstance(v, int | float) and abs(v) < 1e300 for v in value)
    ):
        return tuple(float(v) for v in value)
    raise UsageError(f"{where}: {key} takes {KINDS[kind.split('[')[0]]}, found {repr(value)[:60]}")
