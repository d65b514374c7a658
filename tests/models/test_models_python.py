"""``python:MODULE:FUNCTION``: callables, functions that build a model, torch modules."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pilotfish.errors import ModelError
from pilotfish.models import Model, load_model

BATCH = np.arange(12, dtype=np.float32).reshape(3, 4)
NAMES = (f"user_model_{i}" for i in itertools.count())
Write = Callable[[str], str]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write a module and return its name, new for every call: Python keeps what it has imported."""
    monkeypatch.syspath_prepend(tmp_path)

    def module(source: str) -> str:
        name = next(NAMES)
        (tmp_path / f"{name}.py").write_text(source)
        return name

    return module


def test_a_bare_callable_takes_samples_as_they_are(write: Write) -> None:
    model = load_model(f"python:{write('def f(batch): return batch[:, :2] * 2')}:f")
    assert np.array_equal(model.run(BATCH), BATCH[:, :2] * 2)
    assert model.preprocessing.kind == "tensor"
    assert model.backend.name == "python"
    assert model.weights is None


def test_a_function_without_arguments_builds_the_model(write: Write) -> None:
    name = write("def build(scale=3):\n    return lambda batch: batch[:, :2] * scale")
    assert np.array_equal(load_model(f"python:{name}:build").run(BATCH), BATCH[:, :2] * 3)


def test_an_attribute_of_an_attribute_is_found(write: Write) -> None:
    name = write("class Zoo:\n    @staticmethod\n    def f(batch): return batch")
    assert np.array_equal(load_model(f"python:{name}:Zoo.f").run(BATCH), BATCH)


def test_a_model_is_used_as_it_is(write: Write) -> None:
    name = write(
        "import numpy as np\n"
        "from pilotfish.models import Model, Preprocessing\n"
        "from pilotfish.models.names.python_model import PythonBackend\n"
        "def build():\n"
        "    return Model('mine', PythonBackend(lambda b: b), Preprocessing(), 'hash', n_classes=4)\n"
    )
    model = load_model(f"python:{name}:build")
    assert isinstance(model, Model)
    assert (model.spec, model.weights_hash, model.n_classes) == ("mine", "hash", 4)


def test_preprocessing_is_an_attribute(write: Write) -> None:
    name = write(
        "from pilotfish.models import Preprocessing\n"
        "def f(batch): return batch.mean((2, 3))\n"
        "f.preprocessing = Preprocessing(size=(4, 4), resize=None)\n"
        "def g(batch): return batch\n"
        "g.preprocessing = 'imagenet'\n"
    )
    assert load_model(f"python:{name}:f").preprocessing.size == (4, 4)
    with pytest.raises(ModelError, match="preprocessing is str, not Preprocessing"):
        load_model(f"python:{name}:g")


def test_the_hash_follows_the_source_or_the_attribute(write: Write) -> None:
    one, other = write("def f(batch): return batch"), write("def f(batch): return batch + 0")
    assert load_model(f"python:{one}:f").weights_hash == load_model(f"python:{one}:f").weights_hash
    assert load_model(f"python:{one}:f").weights_hash != load_model(f"python:{other}:f").weights_hash
    told = write("def f(batch): return batch\nf.weights_hash = 'version 7'")
    assert load_model(f"python:{told}:f").weights_hash == "version 7"


@pytest.mark.parametrize(
    ("source", "attribute", "said"),
    [
        ("import no_such_library", "f", "importing {name} failed: ModuleNotFoundError: No module named"),
        ("1 / 0", "f", "importing {name} failed: ZeroDivisionError"),
        ("def", "f", "importing {name} failed: SyntaxError"),
        ("x = 1", "f", "{name} has no 'f'; valid names: x"),
        ("def classify(): pass", "clasify", "{name} has no 'clasify'; nearest names: classify"),
        ("_x = 1", "f", "{name} has no 'f'; there are none"),
        ("x = 1", "x.y", "{name} has no 'x.y'"),
        ("x = 1", "x", "found int, expected a callable or a torch module"),
        ("def f(): return 3", "f", "found int, expected a callable"),
        ("def f(): raise KeyError('gone')", "f", "calling it failed: KeyError: 'gone'"),
    ],
)
def test_what_cannot_be_used_is_one_line_about_the_module(write: Write, source: str, attribute: str, said: str) -> None:
    name = write(source)
    with pytest.raises(ModelError) as caught:
        load_model(f"python:{name}:{attribute}")
    assert said.format(name=name) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("python:no_such_module_at_all:f", "importing no_such_module_at_all failed"),
        ("python:json", "expected python:MODULE:FUNCTION"),
        ("python:json:loads?weights=random", "unknown option 'weights'"),
    ],
)
def test_names_that_lead_nowhere(name: str, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        load_model(name)


def test_an_error_in_the_model_s_own_code_is_said_to_be_its_own(write: Write) -> None:
    name = write("def f(batch):\n    raise ValueError('two\\nlines')")
    with pytest.raises(ModelError) as caught:
        load_model(f"python:{name}:f").run(BATCH)
    assert str(caught.value) == f"python:{name}:f failed on a batch of shape (3, 4): ValueError: two lines"


def test_a_torch_module_runs_in_evaluation_mode_without_gradients(write: Write) -> None:
    torch = pytest.importorskip("torch")
    name = write(
        "import torch\n"
        "def build():\n"
        "    torch.manual_seed(0)\n"
        "    return torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Dropout(0.9))\n"
    )
    model = load_model(f"python:{name}:build")
    assert model.backend.name == "torch"
    with torch.no_grad():
        expected = model.backend.module[0](torch.from_numpy(BATCH)).numpy()
    assert np.array_equal(model.run(BATCH), expected)
    assert model.weights_hash == load_model(f"python:{name}:build").weights_hash
    with pytest.raises(ModelError, match=r"failed on a batch of shape \(3, 3\): RuntimeError: mat1 and mat2"):
        model.run(BATCH[:, :3])


@pytest.mark.parametrize(
    ("shape", "advised"), [((2, 8, 8, 3), True), ((2, 8, 8, 1), True), ((2, 3, 8, 8), False), ((2, 8), False)]
)
def test_images_with_their_channels_last_are_named_where_a_model_fails_on_them(
    write: Write, shape: tuple[int, ...], advised: bool
) -> None:
    model = load_model(f"python:{write('def f(batch): raise ValueError(batch.ndim)')}:f")
    with pytest.raises(ModelError, match="failed on a batch") as caught:
        model.run(np.zeros(shape, np.float32))
    assert ("?layout=nchw" in str(caught.value)) == advised
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("typed", "written"),
    [
        ("net.py:build", "write python:net:build; modules are looked for in the working folder ({here})"),
        ("./net.py:build", "write python:net:build; modules"),
        ("zoo/deep.py:f?takes=images", "write python:zoo.deep:f?takes=images; modules"),
        ("{here}/zoo/deep.py:f", "write python:zoo.deep:f; modules"),
        ("zoo/__init__.py:f", "write python:zoo:f; modules"),
        ("net.py", "write python:net:FUNCTION; modules"),
        ("../net.py:f", "write python:net:f, with PYTHONPATH={above}"),
        ("a.b/net.py:f", "write python:net:f, with PYTHONPATH={here}/a.b"),
        ("v1.2.py:f", "give v1.2.py another one, and write python:MODULE:f"),
        ("gone/net.py:f", "write python:MODULE:f, as it is imported; modules are looked for in"),
        ("gone\\net.py:f", "write python:MODULE:f, as it is imported"),
    ],
)
def test_a_path_is_told_the_module(typed: str, written: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "here"
    for name in ("../net.py", "net.py", "zoo/deep.py", "zoo/__init__.py", "a.b/net.py", "v1.2.py"):
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).write_text("raise RuntimeError('nobody named this module')")
    monkeypatch.chdir(here)
    places = {"here": here, "above": tmp_path}
    with pytest.raises(ModelError) as caught:
        load_model(f"python:{typed.format(**places)}")
    said = str(caught.value)
    assert "python: takes a module, not a path; " in said
    assert written.format(**places) in said


@pytest.mark.parametrize("name", ["no_such_module_at_all", "no_such.module", "no_such.py"])
def test_a_module_that_is_not_there_says_where_it_was_looked_for(name: str) -> None:
    with pytest.raises(ModelError) as caught:
        load_model(f"python:{name}:f")
    assert f"modules are looked for in the working folder ({Path.cwd()}) and on PYTHONPATH" in str(caught.value)


def test_a_module_may_be_called_py(write: Write, tmp_path: Path) -> None:
    (tmp_path / "py_package").mkdir()
    (tmp_path / "py_package" / "py.py").write_text("def f(batch): return batch")
    write("")
    assert np.array_equal(load_model("python:py_package.py:f").run(BATCH), BATCH)
