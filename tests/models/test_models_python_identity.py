"""What stands for the weights of a ``python:`` function, and what it says where it cannot know."""

from __future__ import annotations

import hashlib
import inspect
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pilotfish.models import Model, load_model

NAMES = (f"function_identity_{i}" for i in itertools.count())
Load = Callable[..., Model]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Write a module and load its ``f``; a new module every time: Python keeps what it has imported."""
    monkeypatch.syspath_prepend(tmp_path)

    def loaded(source: str, name: str | None = None) -> Model:
        name = name or next(NAMES)
        (tmp_path / f"{name}.py").write_text(source)
        return load_model(f"python:{name}:f")

    return loaded


DECLARED: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "a file": ("f.files = ['w.bin']", lambda p: (p / "w.bin").write_bytes(b"other")),
    "a path": ("from pathlib import Path\nf.files = Path('w.bin')", lambda p: (p / "w.bin").write_bytes(b"other")),
    "a folder": ("f.files = ['net']", lambda p: (p / "net" / "deep" / "w.bin").write_bytes(b"other")),
    "an array": (
        "import numpy as np\nf.arrays = {'w': np.fromfile(__file__.replace(__name__ + '.py', 'w.bin'), np.uint8)}",
        lambda p: (p / "w.bin").write_bytes(b"other"),
    ),
    "weights": (
        "import numpy as np\nf.weights = [np.fromfile(__file__.replace(__name__ + '.py', 'w.bin'), np.uint8)]",
        lambda p: (p / "w.bin").write_bytes(b"other"),
    ),
}


@pytest.mark.parametrize("what", DECLARED)
def test_what_is_declared_is_part_of_the_identity(what: str, load: Load, tmp_path: Path) -> None:
    code, change = DECLARED[what]
    (tmp_path / "net" / "deep").mkdir(parents=True)
    for file in (tmp_path / "w.bin", tmp_path / "net" / "deep" / "w.bin"):
        file.write_bytes(b"weights")
    source = f"def f(batch): return batch\n{code}\n"
    before, same = load(source), load(source)
    change(tmp_path)
    after = load(source)
    assert before.weights_hash == same.weights_hash != after.weights_hash
    assert before.weights_hash != load("def f(batch): return batch\n").weights_hash
    assert before.notes == ()


BOUND = {
    "a closure": "def g(k):\n    def f(batch): return batch * k\n    return f\nf = g(2)\n",
    "an object": "class C:\n    def __call__(self, batch): return batch * K\nK = 2\nf = C()\n",
    "a class": "class f:\n    def __call__(self, batch): return batch * K\nK = 2\n",
}


@pytest.mark.parametrize("what", BOUND)
def test_of_classes_and_closures_that_declare_files_the_whole_module_counts(
    what: str, load: Load, tmp_path: Path
) -> None:
    (tmp_path / "w.bin").write_bytes(b"weights")
    declared = BOUND[what] + "f.files = ['w.bin']\n"
    first, other = load(declared), load(declared.replace("2", "3"))
    assert first.weights_hash != other.weights_hash
    assert np.array_equal(first.run(np.ones((1, 2), np.float32)), [[2, 2]])


@pytest.mark.parametrize("what", BOUND)
def test_the_source_alone_stands_for_those_that_declare_nothing(what: str, load: Load) -> None:
    """As it always did: records and cascades keep these hashes."""
    model = load(BOUND[what])
    found: Any = model.backend.function  # type: ignore[attr-defined]
    source = inspect.getsource(found if inspect.isfunction(found) else type(found))
    assert model.weights_hash == hashlib.sha256(source.encode()).hexdigest()
    [note] = model.notes
    assert note.startswith("its identity is its source alone: it ")
    assert "files = " in note


@pytest.mark.parametrize(
    ("source", "uses"),
    [
        ("W = [1]\ndef f(batch): return batch * W[0]", "W"),
        ("def f(batch): return [g(x) for x in batch]\ndef g(x): return x", "g"),
        ("import urllib.request\ndef f(batch): return urllib.request.urlopen('http://x')", "urllib"),
        ("def f(batch):\n    import requests\n    return requests.post('x')", "requests"),
        ("def f(batch): return open('w').read()", "open"),
        ("def g(k): return lambda batch: batch * k\nf = g(2)", "k"),
    ],
)
def test_what_a_function_uses_beyond_its_source_is_named(source: str, uses: str, load: Load) -> None:
    [note] = load(source).notes
    assert note.startswith(f"its identity is its source alone: it uses {uses}, and a change of that is not seen; ")


@pytest.mark.parametrize(
    "source",
    [
        "def f(batch): return batch * 2",
        "import numpy as np\ndef f(images): return [np.asarray(x.resize((2, 2))) for x in images]",
        "SIZE = 3\ndef f(batch):\n    import math\n    return batch[:, :SIZE] * math.pi",
        "W = [1]\ndef f(batch): return batch * W[0]\nf.weights_hash = 'version 7'",
    ],
)
def test_a_function_that_is_all_in_its_source_says_nothing(source: str, load: Load) -> None:
    assert load(source).notes == ()
