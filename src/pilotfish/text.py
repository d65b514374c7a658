"""Text of others on a terminal: names, ids, specs and file names may hold escape sequences, line ends or overrides of
the text's direction, with which a file could write over what is shown or make a line that Pilotfish never said."""

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
    """*text* with everything escaped that a terminal would not show as it stands: ``\\x1b``, ``\\n``, ``\\u202e``."""
    return UNSAFE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def quantity(n: int, one: str, many: str | None = None) -> str:
    """A number and what it counts: ``1 box``, ``1,200 boxes``; *many* where that is not *one* and an s."""
    return f"{n:,} {one if n == 1 else many or f'{one}s'}"


def listed(names: Sequence[str], most: int = 5) -> str:
    """The first of *names* and how many more there are: ``a, b and 3 more``."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def examples(names: Sequence[str], most: int = 3) -> str:
    """The first of *names*, where their number is said already: ``a, b, …``."""
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")


def json_line(text: str) -> str:
    """One line of a JSON document with the same characters in JSON's own escapes: the document means the same."""
    return UNSAFE.sub(_json_escape, text)


def _json_escape(found: re.Match[str]) -> str:
    point = ord(found[0])
    if point < 0x10000:
        return f"\\u{point:04x}"
    high, low = divmod(point - 0x10000, 0x400)
    return f"\\u{0xD800 + high:04x}\\u{0xDC00 + low:04x}"
