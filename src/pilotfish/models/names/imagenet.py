"""Names of the ImageNet-1k classes, from timm."""

from __future__ import annotations

from functools import cache


@cache
def imagenet_classes() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(names, wnids) of the 1,000 classes in the usual order; a name is the first of WordNet's synonyms."""
    called = imagenet_names()
    return tuple(names[1] for names in called), tuple(names[0] for names in called)


@cache
def imagenet_names() -> tuple[tuple[str, ...], ...]:
    """What each of the 1,000 classes is called: its wnid, then WordNet's synonyms. () where timm is not installed."""
    try:
        from timm.data import ImageNetInfo
    except ImportError:
        return ()
    info = ImageNetInfo("imagenet-1k")
    pairs = zip(info.label_names(), info.label_descriptions(), strict=True)
    return tuple((str(wnid), *(name.strip() for name in str(text).split(","))) for wnid, text in pairs)
