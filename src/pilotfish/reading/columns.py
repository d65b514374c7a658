"""What columns and arrays of other programs are called: one table of synonyms for every file that is read."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from pilotfish.errors import PilotfishError
from pilotfish.text import examples, listed, one_line

_NAMES = {
    "id": (
        "id",
        "ids",
        "filename",
        "file",
        "path",
        "sample_id sample_ids image_id image_ids img_id filenames file_name file_path files paths",
        "image_path image_name image_file img_path img_name image_paths image_names image_files img_paths img_names",
        "image img images sample key uid uuid",
        "name",
        "index idx Unnamed:0 __index_level_0__",
    ),
    "label": (
        "label labels y y_true true truth ground_truth gt target targets actual true_label true_class gt_label",
        "class_id class_idx class_index label_id label_idx category_id",
        "class category species class_label",
        "class_name label_name",
    ),
    "prediction": (
        "prediction predictions pred preds y_pred predicted argmax y_hat predicted_label predicted_class pred_label",
        "output outputs top1",
    ),
    "confidence": (
        "confidence confidences conf",
        "max_prob max_probs msp prob probs probability proba probabilities softmax",
        "score scores",
        "logit logits max_logit",
    ),
    "samples": ("x images data inputs", "samples features imgs img image pixel_values arr_0"),
    "file": (
        "file",
        "filename",
        "path",
        "filenames file_name file_path files paths",
        "image_path image_name image_file img_path img_name",
        "image img images image_id img_id sample sample_id",
        "id id_code key",
    ),
    "name": ("name", "wnid", "class_name label_name", "class category species"),
    "probs": ("probs", "prob probabilities probability proba softmax y_prob y_proba y_score"),
    "logits": ("logits", "logit"),
    "outputs": ("output outputs scores score", "predictions preds pred prediction y_pred"),
    "ranked": ("ranked", "ranking top_classes topk top_k"),
    "class_names": ("class_names", "classes class_name categories label_names names"),
}
ROLES = {role: tuple(tuple(group.split()) for group in groups) for role, groups in _NAMES.items()}
"""Role → names, in groups: a name of an earlier group is read before those of later ones; the first is the role's own.
Case, spaces and punctuation do not matter."""


MISSING = ("", "NaN", "nan", "NAN", "NA", "N/A", "n/a", "NULL", "null", "None", "<NA>", "#N/A")
"""Cells of a text column that stand for nothing."""
DELIMITERS = (",", ";", "\t", "|")


def plain(name: str) -> str:
    """*name* as names are compared: "True Label", "true-label" and "trueLabel" are one."""
    return re.sub(r"[\W_]+", "", name.strip().casefold())


_PLAIN = {role: [[plain(name) for name in group] for group in groups] for role, groups in ROLES.items()}
_PLAIN["id"][-1].append("")  # the column without a name that pandas writes first


def find(
    where: str,
    names: Sequence[str],
    role: str,
    error: type[PilotfishError],
    same: Callable[[str, str], bool] | None = None,
) -> str | None:
    """The one of *names* that has *role*, or None.

    Two names of one group mean the same: they are refused, unless *same* says that they hold the same. What has a name
    of a later group is something else, and stays for the caller to name.
    """
    for group in _PLAIN[role]:
        found = [name for name in names if plain(name) in group]
        found.sort(key=lambda name: group.index(plain(name)))
        for other in found[1:]:
            if same is None or not same(found[0], other):
                raise error(
                    f"{where}: {shown(found)} mean the same ({role}) and differ; keep one of them"
                    if same is not None
                    else f"{where}: {shown(found)} mean the same ({role}); keep one of them"
                )
        if found:
            return found[0]
    return None


_KNOWN = {name for groups in _PLAIN.values() for group in groups for name in group if name}


def is_known(name: str) -> bool:
    """Whether *name* has a role in any file."""
    return plain(name) in _KNOWN


def delimiter_of(header: str, order: Sequence[str] = DELIMITERS) -> str:
    """The delimiter that makes most names of a header known ones; the first of *order* where several do."""

    def known(delimiter: str) -> int:
        return sum(is_known(name) for name in header.strip().replace('"', "").split(delimiter))

    best = max(known(delimiter) for delimiter in order)
    return next(d for d in order if known(d) == best) if best else order[0]


def shown(names: Iterable[str], most: int = 12) -> str:
    """Names in one line, the first few of many; a column without a name is called so."""
    return listed([one_line(name.strip())[:60] or "(no name)" for name in names], most) or "(none)"


def sorted_names_note(names: Sequence[str]) -> str:
    """The note on class names that a file gives without their order."""
    first = examples([one_line(name)[:30] for name in names[:4]])
    return f"classes are numbered by their sorted names, {len(names)} in all, from 0: {first}"


def unread_note(where: str, names: Iterable[str]) -> tuple[str, ...]:
    """A note that names what was not read; none where everything was."""
    left = list(names)
    return (f"{where}: not read: {shown(left)} (the names that are read: docs/records.md)",) if left else ()
