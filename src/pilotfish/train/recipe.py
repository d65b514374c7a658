"""How a network is trained: a small file that one can read and change."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pilotfish.documents import Share, Within, as_document, check_fields, read_as
from pilotfish.errors import UsageError, nearest


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

    epochs: Annotated[int, Within(1, 100_000)] = 10
    batch_size: Annotated[int, Within(2, 1_000_000)] = 128
    optimiser: Literal["adamw", "sgd"] = "adamw"
    learning_rate: Annotated[float, Within(0)] = 1e-3
    weight_decay: Annotated[float, Within(0, 1e6)] = 0.01
    momentum: Share = 0.9
    schedule: Literal["cosine", "steps", "constant"] = "cosine"
    warm_up_epochs: Annotated[float, Within(0, 100_000)] = 0.0
    steps: tuple[Share, ...] = (0.5, 0.75)
    loss: Literal["sum", "distill", "self_distill", "saver_weighted"] = "sum"
    weights: Literal["equal", "linear"] = "equal"
    temperature: Annotated[float, Within(1e-3, 1e4)] = 3.0
    distillation: Share = 0.5
    label_smoothing: Share = 0.0
    crop: Annotated[int, Within(0, 1024)] = 0
    flip: bool = False
    auto_augment: bool = False
    mixup: Annotated[float, Within(0, 100)] = 0.0
    cutmix: Annotated[float, Within(0, 100)] = 0.0
    freeze: bool = True
    amp: bool = False
    holdout: Share = 0.1

    def __post_init__(self) -> None:
        check_fields(self, "a recipe", UsageError)
        for what in ("momentum", "label_smoothing", "holdout"):
            if getattr(self, what) == 1:
                raise UsageError(f"a recipe's {what} is a number from 0 to below 1, found 1")
        if not self.learning_rate:
            raise UsageError("a recipe's learning_rate is a number above 0, found 0")
        if not all(0 < step < 1 for step in self.steps):
            raise UsageError(f"a recipe's steps are shares of the training between 0 and 1, found {list(self.steps)}")

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        document: dict[str, Any] = as_document(self)
        return document


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
    if unknown := [key for key in values if key not in Recipe.__dataclass_fields__]:
        raise UsageError(
            f"{source}: a recipe has no {unknown[0]!r}; {nearest(unknown[0], Recipe.__dataclass_fields__)}"
        )
    return read_as(Recipe, values, str(source), UsageError)


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
