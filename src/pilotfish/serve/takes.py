"""What a cascade takes for an input."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pilotfish.models import Preprocessing


@dataclass(frozen=True)
class Takes:
    """What a cascade takes for an input.

    images  encoded images, and uint8 (H, W, 3) or (H, W)
    arrays  arrays of any numbers, as they are
    shape   of one array, where it is known
    """

    images: bool
    arrays: bool
    shape: tuple[int, ...] | None = None

    @classmethod
    def by(cls, chains: Iterable[Preprocessing], shape: tuple[int, ...] | None) -> Takes:
        """What stages with this preprocessing take. shape: of an input of the first, where it is known."""
        kinds = {chain.kind for chain in chains}
        tensors = kinds == {"tensor"}
        return cls(not tensors, kinds <= {"tensor", "arrays"}, tuple(shape) if tensors and shape else None)

    @property
    def says(self) -> str:
        """In words."""
        arrays = "arrays" if self.shape is None else f"arrays of shape {list(self.shape)}"
        return " or ".join(["encoded images"] * self.images + [arrays] * self.arrays)
