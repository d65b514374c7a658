"""Untrusted text on a terminal: names, ids, specs and file names may contain escape sequences, line ends or direction
overrides, with which a file could overwrite the output or forge a line."""

from __future__ import annotations

import re
from collections.abc import Sequence

# Controls (C0, DEL, C1), soft hyphens, marks and overrides of direction, line and paragraph separators, invisible
# operators, tags, and lone surrogates; not the joiners that scripts and emoji need.
UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ufffe\uffff\ud800-\udfff"
    "\U000110bd\U000110cd\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)


def one_line(text: str) -> str:
    """*text* with everything escaped that a terminal would not show literally: ``\\x1b``, ``\\n``, ``\\u202e``."""
    return UNSAFE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def quantity(n: int, one: str, many: str | None = None) -> str:
    """A number with its noun: ``1 box``, ``1,200 boxes``; *many* if the plural is not *one* + s."""
    return f"{n:,} {one if n == 1 else many or f'{one}s'}"


def listed(names: Sequence[str], most: int = 5) -> str:
    """The first of *names* and how many more there are: ``a, b and 3 more``."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def examples(names: Sequence[str], most: int = 3) -> str:
    """The first of *names*, if their number is already stated: ``a, b, …``."""
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")


def json_line(text: str) -> str:
    """One line of a JSON document with these characters as JSON escapes: its value is unchanged."""
    return UNSAFE.sub(_json_escape, text)


def _json_escape(found: re.Match[str]) -> str:
    point = ord(found[0])
    if point < 0x10000:
        return f"\\u{point:04x}"
    high, low = divmod(point - 0x10000, 0x400)
    return f"\\u{0xD800 + high:04x}\\u{0xDC00 + low:04x}"
