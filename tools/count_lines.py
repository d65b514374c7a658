"""Count lines of code: without blanks, comments and docstrings.

    python tools/count_lines.py [FOLDER]          by room, of src/pilotfish by default
    python tools/count_lines.py --against COMMIT  what stands there now against what stood in COMMIT, new files apart

A line of code is a physical line that holds at least one token that is neither a comment nor part of a docstring. A
file counts as new when nothing in COMMIT has its content: moved files, as git follows them, count where they are now.
"""

from __future__ import annotations

import argparse
import ast
import io
import subprocess
import tokenize
from collections import Counter
from pathlib import Path

NOTHING = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
SOURCE = "src/pilotfish"


def code_lines(text: str) -> int:
    """Lines of *text*, a Python file, that are code."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None:
            first = node.body[0]
            docstrings.update(range(first.lineno, (first.end_lineno or first.lineno) + 1))
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in NOTHING:
            lines.update(range(token.start[0], token.end[0] + 1))
    return len(lines - docstrings)


def git(*arguments: str) -> str:
    """What git prints."""
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout


def by_room(folder: Path) -> Counter[str]:
    """Lines of each room of *folder*."""
    found: Counter[str] = Counter()
    for path in sorted(folder.rglob("*.py")):
        inside = path.relative_to(folder).parts
        found[inside[0] if len(inside) > 1 else "(top)"] += code_lines(path.read_text(encoding="utf-8"))
    return found


def against(commit: str, similar: int) -> None:
    """Print what became of the files of *commit*, and the new files apart."""
    before = {
        p: code_lines(git("show", f"{commit}:{p}"))
        for p in git("ls-tree", "-r", "--name-only", commit, SOURCE).split()
        if p.endswith(".py")
    }
    now = {str(p): code_lines(p.read_text(encoding="utf-8")) for p in Path(SOURCE).rglob("*.py")}
    moved = {}
    for line in git("diff", "--name-status", f"-M{similar}%", "-l0", commit, "--", SOURCE).splitlines():
        status, *paths = line.split("\t")
        if status.startswith("R"):
            moved[paths[1]] = paths[0]
    new = sorted(path for path in now if path not in before and path not in moved)
    kept = {path: lines for path, lines in now.items() if path not in new}
    print(f"{'':40}{'lines':>8}{'files':>8}")
    print(f"{'at ' + commit[:12]:40}{sum(before.values()):8,}{len(before):8,}")
    print(f"{'of it, and moved from it, now':40}{sum(kept.values()):8,}{len(kept):8,}")
    print(f"{'difference':40}{sum(kept.values()) - sum(before.values()):+8,}{len(kept) - len(before):+8,}")
    print(f"{'new files':40}{sum(now[p] for p in new):8,}{len(new):8,}")
    for path in new:
        print(f"    {path:60}{now[path]:6,}")


def main() -> None:
    """Print the table that was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=Path(SOURCE))
    parser.add_argument("--against", metavar="COMMIT")
    parser.add_argument("--similar", type=int, default=40, help="percent of a file that must be the same for a move")
    asked = parser.parse_args()
    if asked.against:
        against(asked.against, asked.similar)
        return
    rooms = by_room(asked.folder)
    for room, lines in rooms.items():
        print(f"{room:20}{lines:8,}")
    print(f"{'in all':20}{sum(rooms.values()):8,}  {sum(1 for _ in asked.folder.rglob('*.py')):,} files")
    longest = max(asked.folder.rglob("*.py"), key=lambda p: len(p.read_text(encoding="utf-8").splitlines()))
    print(f"longest: {longest} {len(longest.read_text(encoding='utf-8').splitlines())} lines")


if __name__ == "__main__":
    main()
