"""Names of the ImageNet-1k classes, from timm."""

from __future__ import annotations

from functools import cache


@cache
def imagenet_classes() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(names, wnids) of the 1,000 classes in the usual order; a name is the first of WordNet's synonyms."""
    from timm.data import ImageNetInfo

    info = ImageNetInfo("imagenet-1k")
    names = tuple(str(text).split(",")[0].strip() for text in info.label_descriptions())
    return names, tuple(str(wnid) for wnid in info.label_names())
