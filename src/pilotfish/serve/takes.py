"""Which inputs a cascade accepts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pilotfish.models import Preprocessing


@dataclass(frozen=True)
class Takes:
    """Which inputs a cascade accepts.

    images  whether it takes encoded images, and uint8 (H, W, 3) or (H, W)
    arrays  whether it takes numeric arrays as they are
    shape   of one array, if known
    """

    images: bool
    arrays: bool
    shape: tuple[int, ...] | None = None

    @classmethod
    def by(cls, chains: Iterable[Preprocessing], shape: tuple[int, ...] | None) -> Takes:
        """What stages with this preprocessing accept. shape: of an input of the first stage, if known."""
        kinds = {chain.kind for chain in chains}
        tensors = kinds == {"tensor"}
        return cls(not tensors, kinds <= {"tensor", "arrays"}, tuple(shape) if tensors and shape else None)

    @property
    def says(self) -> str:
        """In words."""
        arrays = "arrays" if self.shape is None else f"arrays of shape {list(self.shape)}"
        return " or ".join(["encoded images"] * self.images + [arrays] * self.arrays)
