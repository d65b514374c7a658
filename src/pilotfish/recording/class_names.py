"""Class names of data and of models: which are the same, and which are numbers."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence

from pilotfish.reading.columns import plain

NUMBER = re.compile(r"(?:(?:label|class|cls|category|idx|index|id|c)[\s_.-]*)?0*(\d{1,9})", re.IGNORECASE)
WNID = re.compile(r"(n\d{8})(?!\d)")
NUMBERED = re.compile(r"\d+[\s_.-]+(.*[^\W\d_].*)", re.DOTALL)  # 001.Black_footed_Albatross
IMAGENET_CLASSES = 1000
ALIKE = 0.9  # share of the names of a model that make it one of ImageNet's classes

Texts = Sequence[Sequence[str]]
"""Everything that each class is called."""


def numbers_in(names: Iterable[str]) -> list[int] | None:
    """The class numbers that *names* are ("7", "007", "class_7", "LABEL_7"); None unless all of them are."""
    found = [NUMBER.fullmatch(name.strip()) for name in names]
    return [int(match[1]) for match in found if match] if found and all(found) else None


def find_classes(
    names: Sequence[str], known: Sequence[str] | None, ids: Sequence[str] | None, classes: int | None
) -> tuple[list[tuple[int, ...]], bool]:
    """(the classes of the model that each of *names* may be, () where it is none; whether ImageNet's list was needed).

    The same are names but for case, spaces, underscores and other signs, for a number before them, and for what
    WordNet calls the same.

    known, ids  of the model's classes in its order; None, or numbers and placeholders, say nothing
    classes     how many it has; with 1000 it may be a model of ImageNet
    """
    said = [one for one in (known, ids) if one is not None and numbers_in(one) is None]
    texts = list(zip(*said, strict=False))
    found = _look_up(names, texts)
    if all(found) or classes != IMAGENET_CLASSES:
        return found, False
    imagenet = _imagenet()
    if texts and _alike(texts, imagenet) < ALIKE:
        return found, False
    wider = [own or other for own, other in zip(found, _look_up(names, imagenet), strict=True)]
    if not texts and not all(wider):
        return found, False
    return wider, not texts


def _look_up(names: Sequence[str], texts: Texts) -> list[tuple[int, ...]]:
    levels = [(form, _index(texts, form)) for form in FORMS] if texts else []
    return [next((index[key] for form, index in levels if (key := form(name)) and key in index), ()) for name in names]


def _index(texts: Texts, form: Callable[[str], str]) -> dict[str, tuple[int, ...]]:
    found: dict[str, list[int]] = {}
    for place, called in enumerate(texts):
        for text in dict.fromkeys(map(form, called)):
            found.setdefault(text, []).append(place)
    return {text: tuple(places) for text, places in found.items()}


def _plain(name: str) -> str:
    """Letters and digits alone, without case, in Unicode's compatible form."""
    return plain(unicodedata.normalize("NFKC", name))


def _wnid(name: str) -> str:
    match = WNID.match(name.strip())
    return match[1] if match else ""


def _without_number(name: str) -> str:
    match = NUMBERED.fullmatch(name.strip())
    return _plain(match[1] if match else name)


FORMS: tuple[Callable[[str], str], ...] = (str.strip, _plain, _wnid, _without_number)


def _imagenet() -> Texts:
    try:
        from pilotfish.models.names.timm_models import imagenet_names
    except ImportError:
        return ()
    return imagenet_names()


def _alike(texts: Texts, imagenet: Texts) -> float:
    """The share of classes of which one name is one of ImageNet's for the class of the same number."""
    if len(texts) != len(imagenet):
        return 0.0
    pairs = zip(texts, imagenet, strict=True)
    return sum(bool(set(map(_plain, own)) & set(map(_plain, theirs))) for own, theirs in pairs) / len(imagenet)
