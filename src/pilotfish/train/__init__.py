"""Training networks with exits; every training ends in a file that ``record`` takes."""

from pilotfish.errors import MissingExtraError

try:
    import torch  # noqa: F401
except ImportError as error:
    raise MissingExtraError("torch", "torch", "training") from error

from pilotfish.train.loop import Trained
from pilotfish.train.recipe import Recipe, load_recipe
from pilotfish.train.train_esn import train_esn
from pilotfish.train.train_exits import train_exits, train_msdnet
from pilotfish.train.train_router import train_router

__all__ = ["Recipe", "Trained", "load_recipe", "train_esn", "train_exits", "train_msdnet", "train_router"]
