"""Training networks with exits; every training ends in a file that ``record`` takes."""

from pilotfish.errors import needs

with needs("torch", "torch", "training"):
    import torch  # noqa: F401

from pilotfish.train.loop import Trained
from pilotfish.train.recipe import Recipe, load_recipe
from pilotfish.train.train_esn import train_esn
from pilotfish.train.train_exits import train_exits, train_msdnet
from pilotfish.train.train_router import train_router

__all__ = ["Recipe", "Trained", "load_recipe", "train_esn", "train_exits", "train_msdnet", "train_router"]
