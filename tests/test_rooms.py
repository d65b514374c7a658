"""Arrows go one way: a room imports only from the rooms before it, inside functions and for type checking as well."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import pilotfish

SOURCE = Path(pilotfish.__file__).parent
ROOMS = [
    "_version",
    "text",
    "errors",
    "files",
    "documents",
    "machine",
    "reading",
    "scores",
    "tasks",
    "records",
    "cascade",
    "plan",
    "data",
    "models",
    "recording",
    "runtime",
    "train",
    "report",
    "plots",
    "flow",
    "serve",
    "doctor",
    "api",
    "cli",
    "__init__",
    "__main__",
]
TORCH_FREE = [*ROOMS[: ROOMS.index("plan") + 1], "report"]
TORCH_FREE.remove("machine")
HEAVY = {"torch", "torchvision", "timm", "onnx", "onnxruntime", "openvino", "sklearn", "transformers"}


def room_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of everything a file imports, wherever the import stands."""
    package = ("pilotfish", *path.relative_to(SOURCE).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*above, *([node.module] if node.module else [])])
            names = [f"{module}.{alias.name}" for alias in node.names] if module == "pilotfish" else [module]
            yield from ((node.lineno, name) for name in names)


FILES = sorted(SOURCE.rglob("*.py"))


def test_every_file_is_in_a_room_that_is_known() -> None:
    assert {room_of(path) for path in FILES} == set(ROOMS)
    assert len(FILES) > 80


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_from_rooms_before_it(room: str) -> None:
    allowed = set(ROOMS[: ROOMS.index(room) + 1])
    if room == "report":
        allowed = set(TORCH_FREE)
    wrong = [
        f"{path.relative_to(SOURCE)}:{line} imports {name}"
        for path in FILES
        if room_of(path) == room
        for line, name in imports(path)
        if name.split(".")[0] == "pilotfish" and [*name.split("."), "__init__"][1] not in allowed
    ]
    assert wrong == []


@pytest.mark.parametrize("room", TORCH_FREE)
def test_rooms_without_torch_never_import_it(room: str) -> None:
    wrong = [
        f"{path.relative_to(SOURCE)}:{line} imports {name}"
        for path in FILES
        if room_of(path) == room
        for line, name in imports(path)
        if name.split(".")[0] in HEAVY or (name.startswith("safetensors.") and name != "safetensors.numpy")
    ]
    assert wrong == []


def test_the_map_names_files_and_rooms_that_exist() -> None:
    text = (Path(__file__).parents[1] / "ARCHITECTURE.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)(?:/|\.py)`", text, flags=re.MULTILINE)
    assert rows == [room for room in ROOMS if not room.startswith("_")]
    known = {f"/{path.relative_to(SOURCE)}" for path in FILES} | {"/tests/test_rooms.py"}
    named = set(re.findall(r"`([\w/]+\.py)`", text))
    assert len(named) > 200
    assert [name for name in sorted(named) if not any(path.endswith(f"/{name}") for path in known)] == []


def test_scipy_is_imported_where_it_is_used_and_not_before() -> None:
    top_level = [
        str(path.relative_to(SOURCE))
        for path in FILES
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.Import | ast.ImportFrom) and "scipy" in ast.dump(node)
    ]
    assert top_level == []


def test_no_room_imports_by_a_string_what_it_may_not() -> None:
    """import_module with a name of this package would hide an arrow; the lazy names of the package are the one case."""
    hidden = [
        str(path.relative_to(SOURCE))
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and (getattr(node.func, "id", None) or getattr(node.func, "attr", None)) in ("import_module", "__import__")
        and any(isinstance(a, ast.Constant) and str(a.value).startswith("pilotfish") for a in node.args)
    ]
    assert hidden == []


def test_the_walk_sees_imports_wherever_they_stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.SOURCE", tmp_path)
    (tmp_path / "plan").mkdir()
    made = tmp_path / "plan" / "x.py"
    made.write_text(
        "import torch.nn\nfrom pilotfish import data\n"
        "def f():\n    from pilotfish.models.costs.macs import g\n    import pilotfish.runtime as r\n"
        "from . import sweep\nfrom .tune import tune\nfrom .. import flow\nfrom ..cli.main import run\n"
    )
    assert sorted(imports(made)) == [
        (1, "torch.nn"),
        (2, "pilotfish.data"),
        (4, "pilotfish.models.costs.macs"),
        (5, "pilotfish.runtime"),
        (6, "pilotfish.plan"),
        (7, "pilotfish.plan.tune"),
        (8, "pilotfish.flow"),
        (9, "pilotfish.cli.main"),
    ]
