"""What a model computes in, as people write it."""

from __future__ import annotations

from collections.abc import Mapping

from pilotfish.errors import UsageError, nearest

SHORT: Mapping[str, str] = {"float32": "fp32", "int8": "int8", "bfloat16": "bf16", "float16": "fp16"}
"""Every dtype by its name in records, and the short name that is read in its place."""


def dtype_named(text: str) -> str:
    """The dtype that *text* names: ``bfloat16`` for ``bfloat16`` and ``bf16``. UsageError for no such name."""
    word = text.strip().lower()
    for name, short in SHORT.items():
        if word in (name, short):
            return name
    raise UsageError(f"unknown dtype {text[:40]!r}; {nearest(word, (*SHORT.values(), *SHORT))}")
