"""The networks of the experiments, and how they are trained.

    python experiments/zoo.py --only vit

trains and records those whose name begins so; the experiments train what they miss themselves.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from common import Parts, fashion_mnist, multi_scale, network, options, say

from pilotfish.models.exits.msdnet import MSDNetConfig
from pilotfish.train import Recipe, Trained

JOINT = Recipe(epochs=8, batch_size=128, learning_rate=2e-3, warm_up_epochs=0.5, crop=2, flip=True, freeze=False)
HEADS = Recipe(epochs=4, batch_size=128, learning_rate=3e-3, warm_up_epochs=0.25, crop=2, flip=True)
VIT = {"img_size": 28, "patch_size": 7, "in_chans": 1, "embed_dim": 64, "num_heads": 4}
VIT_RECIPE = Recipe(
    epochs=12, batch_size=128, learning_rate=1e-3, weight_decay=0.05, warm_up_epochs=1, crop=2, flip=True, freeze=False
)
BLOCKS = ("blocks.1", "blocks.3", "blocks.5")
STAGES = ("layer1", "layer2", "layer3")
NARROW = (8, 16, 32, 64)
MIDDLE = (16, 32, 64, 128)

PLAIN: dict[str, tuple[str, dict[str, Any], Recipe]] = {
    "vit-4": ("timm:vit_tiny_patch16_224", {**VIT, "depth": 4}, VIT_RECIPE),
    "resnet34": ("timm:resnet34", {"in_chans": 1, "channels": MIDDLE}, JOINT),
    "resnet18": ("timm:resnet18", {"in_chans": 1, "channels": MIDDLE}, JOINT),
    "resnet18-narrow": ("timm:resnet18", {"in_chans": 1, "channels": NARROW}, JOINT),
    "resnet10": ("timm:resnet10t", {"in_chans": 1, "channels": NARROW, "stem_width": 8}, JOINT),
}
JOINT_EXITS: dict[str, tuple[str, dict[str, Any], tuple[str, ...], str, Recipe]] = {
    "vit-8-exits": ("timm:vit_tiny_patch16_224", {**VIT, "depth": 8}, BLOCKS, "norm", VIT_RECIPE),
    "resnet34-joint": ("timm:resnet34", {"in_chans": 1, "channels": MIDDLE}, STAGES, "linear", JOINT),
}
FROZEN_EXITS: dict[str, tuple[str, tuple[str, ...], str]] = {
    "resnet34-exits": ("resnet34", STAGES, "linear"),
    "resnet34-mlp-exits": ("resnet34", STAGES, "mlp"),
}
MSDNET = MSDNetConfig(10, blocks=4, channels=8, growth=4, colours=1)
MSDNET_RECIPE = Recipe(
    epochs=5,
    batch_size=64,
    optimiser="sgd",
    learning_rate=0.1,
    weight_decay=1e-4,
    schedule="cosine",
    crop=2,
    flip=True,
    freeze=False,
)


def train(name: str, work: Path, parts: Parts, seed: int) -> Trained:
    """The network *name*, from the work folder where it is there already."""
    if name == "msdnet":
        return multi_scale(work, parts, name, seed, MSDNET, MSDNET_RECIPE)
    if name in PLAIN:
        model, arguments, recipe = PLAIN[name]
        return network(work, parts, name, seed, model, recipe, arguments=arguments)
    if name in JOINT_EXITS:
        model, arguments, layers, head, recipe = JOINT_EXITS[name]
        return network(work, parts, name, seed, model, recipe, layers, arguments, head)
    backbone, layers, head = FROZEN_EXITS[name]
    file = train(backbone, work, parts, seed).file
    return network(work, parts, name, seed, f"exits:{file}", HEADS, layers, head=head)


NAMES = ("msdnet", *PLAIN, *JOINT_EXITS, *FROZEN_EXITS)


def main() -> None:
    """Train what is asked for."""
    parser = options(__doc__)
    parser.add_argument("--only", nargs="+", default=[""], help="beginnings of names")
    given = parser.parse_args()
    parts = fashion_mnist(given.data)
    for seed in given.seeds:
        for name in NAMES:
            if name.startswith(tuple(given.only)):
                found = train(name, given.work, parts, seed)
                say(f"seed {seed}, {name}: {', '.join(f'{a:.4f}' for a in found.accuracy)}")


if __name__ == "__main__":
    main()
