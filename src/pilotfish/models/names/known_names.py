"""The names that can be listed. Packages take seconds to import, so their lists are kept until another version of them
is installed, in ``names.json`` of the cache folder, which may be deleted at any time."""

from __future__ import annotations

import contextlib
import fnmatch
import importlib.metadata
import importlib.util
from pathlib import Path
from typing import Any

from pilotfish.errors import PilotfishError, UnwritableError, UsageError
from pilotfish.files import read_json, write_json
from pilotfish.models.names.spec import KINDS, Form, imported
from pilotfish.models.onnx.onnx_cache import cache_folder, distrust

FILE = "names.json"


def list_models(pattern: str = "") -> list[str]:
    """Names that ``--model`` takes and that contain *pattern*, or match it when it has wildcards."""
    kind = pattern.partition(":")[0]
    asked = [kind] if ":" in pattern and kind in KINDS else sorted(KINDS)
    names = [f"{kind}:{name}" for kind in asked for name in _listed(kind, KINDS[kind])]
    if any(mark in pattern for mark in "*?["):
        return [
            name for name in names if fnmatch.fnmatch(name, pattern) or fnmatch.fnmatch(name.split(":")[1], pattern)
        ]
    return [name for name in names if pattern.lower() in name.lower()]


def _listed(kind: str, form: Form) -> list[str]:
    """The names of one form, as they were kept for what is installed now, or as its package lists them."""
    if form.lister is None:
        return []
    version = None if form.lists is None else _installed(form.lists)
    version = None if version is None else f"{version} {form.lister}"
    if version is None or distrust() is not None:
        return list(imported(form.lister)())
    path = cache_folder() / FILE
    kept = _read(path)
    entry = kept.get(kind)
    if isinstance(entry, dict) and entry.get("of") == version:
        names = entry.get("names")
        if isinstance(names, list) and all(isinstance(name, str) for name in names):
            return names
    found = list(imported(form.lister)())
    with contextlib.suppress(UnwritableError, UsageError, OSError):  # a home that cannot be written
        write_json(path, {**kept, kind: {"of": version, "names": found}})
    return found


def _read(path: Path) -> dict[str, Any]:
    try:
        return read_json(path, PilotfishError)
    except PilotfishError:  # missing, or damaged: it is written anew
        return {}


def _installed(package: str) -> str | None:
    """The version of *package* and when it was installed; None where it is not, or cannot be told."""
    try:
        found = importlib.util.find_spec(package)
        changed = None if found is None or found.origin is None else Path(found.origin).stat().st_mtime_ns
        return None if changed is None else f"{importlib.metadata.version(package)} {changed}"
    except (ImportError, ValueError, OSError):
        return None
