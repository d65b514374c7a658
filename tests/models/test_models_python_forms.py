"""``python:`` functions as people write them: what they take, what they answer with, and that both are kept."""

from __future__ import annotations

import dataclasses
import importlib
import itertools
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pilotfish import Cascade, open_run, tune
from pilotfish.cascade import save_artefact
from pilotfish.cascade.artefact import OperatingPoint
from pilotfish.errors import PilotfishError
from pilotfish.recording import RecordOptions, record

CLASSES = ("blue", "green", "red")
NAMES = (f"function_forms_{i}" for i in itertools.count())
QUIET = RecordOptions(timing=False)
CODE = """
import numpy as np
from PIL import Image

SEEN = []
CLASSES = ("red", "green", "blue")


def shares(image):
    means = np.asarray(image, np.float64).mean((0, 1)) / 4
    e = np.exp(means - means.max())
    return e / e.sum()


def image_of(one):
    if not isinstance(one, (Image.Image, str)):
        raise TypeError("neither an image nor a path")
    return one if isinstance(one, Image.Image) else Image.open(one)


def told(images, answer):
    assert isinstance(images, list)
    SEEN.append(len(images))
    return [answer(shares(image)) for image in images]


def best(p):
    return CLASSES[int(p.argmax())], float(p.max())


"""
TAKERS = {
    "images": "def f(images): return told([x.convert('RGB') for x in images], ANSWER)",
    "arrays": "def f(arrays): return told([x for x in arrays if x.dtype == np.uint8 and x.ndim == 3 or 1 / 0], ANSWER)",
    "paths": "def f(paths): return told([Image.open(p) for p in paths], ANSWER)",
    "image": "def f(image): return told([image.convert('RGB')], ANSWER)[0]",
    "array": "def f(x): return told([x if x.dtype == np.uint8 and x.ndim == 3 else 1 / 0], ANSWER)[0]",
    "path": "def f(path): return told([Image.open(path)], ANSWER)[0]",
}
ANSWERS = {
    "dictionaries": "lambda p: dict(zip(CLASSES, p.tolist()))",
    "a pipeline's": "lambda p: [{'label': CLASSES[i], 'score': p[i]} for i in np.argsort(-p)]",
    "a pipeline's two best": "lambda p: [{'label': CLASSES[i], 'score': p[i]} for i in np.argsort(-p)[:2]]",
    "pairs": "best",
    "labels with a confidence": "lambda p: dict(zip(('label', 'confidence'), best(p)))",
}


@pytest.fixture
def photos(tmp_path: Path) -> str:
    """Thirty-six noisy pictures of three classes and many sizes, of which some look like another class."""
    rng = np.random.default_rng(0)
    for place, name in enumerate(("red", "green", "blue")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(12):
            pixels = rng.integers(0, 100, (8 + i % 4, 12, 3)).astype(np.float64)
            pixels[..., place] += 12 * rng.random() - 2
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(tmp_path / "photos" / name / f"{i}.png")
    return f"folder:{tmp_path / 'photos'}"


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Write a module, of the code above and more, and import it."""
    monkeypatch.syspath_prepend(tmp_path)

    def module(code: str, answer: str = "None") -> Any:
        name = next(NAMES)
        (tmp_path / f"{name}.py").write_text(CODE + f"ANSWER = {answer}\n\n\n" + textwrap.dedent(code) + "\n")
        return importlib.import_module(name)

    return module


def by_hand(photos: str, module: Any) -> dict[str, str]:
    """The class that plain code gives each file."""
    root = Path(photos.removeprefix("folder:"))
    found = {}
    for path in root.rglob("*.png"):
        with Image.open(path) as image:
            found[str(path.relative_to(root))] = module.best(module.shares(image))[0]
    return found


def recorded(photos: str, module: Any, run: Path, options: str = "", alias: str | None = None) -> tuple[Any, Any]:
    """(what recording ``f`` says, its records)."""
    name = f"python:{module.__name__}:f"
    [result] = record(photos, name + options, run, alias=alias or "f", options=QUIET)
    return result, open_run(run).read(alias or "f")


def answers(records: Any) -> dict[str, str]:
    names = records.meta.class_names
    return dict(zip(records.ids.to_pylist(), [names[i] for i in records.outputs.prediction], strict=True))


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("takes", TAKERS)
def test_what_a_function_takes_and_answers_is_found_and_recorded_to_the_sample(
    takes: str, answer: str, photos: str, write: Callable[..., Any], tmp_path: Path
) -> None:
    module = write(TAKERS[takes], ANSWERS[answer])
    result, records = recorded(photos, module, tmp_path / "run")
    assert answers(records) == by_hand(photos, module)
    assert records.meta.class_names == CLASSES  # in the order of the data
    assert f"?takes={takes}&activation=" in records.meta.spec
    assert any(f"takes = {takes!r}" in note for note in result.notes)
    assert 36 < sum(module.SEEN) <= 36 + 8
    assert 0.4 < records.value < 1


@pytest.mark.parametrize("takes", TAKERS)
def test_a_cascade_keeps_what_was_found_and_tries_nothing(
    takes: str, photos: str, write: Callable[..., Any], tmp_path: Path
) -> None:
    saver, base = write(TAKERS[takes], ANSWERS["dictionaries"]), write(TAKERS[takes], ANSWERS["pairs"])
    _, first = recorded(photos, saver, tmp_path / "run", alias="saver")
    _, last = recorded(photos, base, tmp_path / "run", alias="base")
    found = tune(tmp_path / "run", ["saver", "base"], max_drop="50%", holdout=0, allow_bad_base=True).artefact
    middle = OperatingPoint((float(np.median(first.outputs.log_odds)),))
    save_artefact(dataclasses.replace(found, operating_point=middle), tmp_path / "cascade")
    saver.SEEN.clear()
    allowed = [f"{module.__name__}:f" for module in (saver, base)]
    cascade = Cascade.load(tmp_path / "cascade", allow_python=allowed)
    assert not saver.SEEN
    root = Path(photos.removeprefix("folder:"))
    said = cascade.predict([root])
    expected = [answers(first), answers(last)]
    for one in said:
        assert one.error is None
        assert one.name == expected[one.stage or 0][str(Path(one.input).relative_to(root))]
    assert sum(saver.SEEN) == 36
    assert {one.stage for one in said} == {0, 1}
    assert [cascade.predict([one.input])[0] for one in said[:3]] == said[:3]  # one at a time


@pytest.mark.parametrize("takes", TAKERS)
def test_what_is_declared_is_not_tried(takes: str, photos: str, write: Callable[..., Any], tmp_path: Path) -> None:
    declared = write(f"{TAKERS[takes]}\nf.takes = {takes!r}", ANSWERS["pairs"])
    result, records = recorded(photos, declared, tmp_path / "run")
    assert answers(records) == by_hand(photos, declared)
    assert not any("takes =" in note for note in result.notes)
    assert sum(declared.SEEN) <= 36 + 5
    named = write(TAKERS[takes], ANSWERS["pairs"])
    assert answers(recorded(photos, named, tmp_path / "run", f"?takes={takes}", "named")[1]) == by_hand(photos, named)


ARRAYS = {
    "probabilities": "return np.stack([shares(x) for x in images])",
    "logits": "return np.log(np.stack([shares(x) for x in images])) + 3",
    "lists": "return [shares(x).tolist() for x in images]",
    "tensors": "import torch\n    return torch.tensor(np.stack([shares(x) for x in images]), requires_grad=True)",
    "two arrays": "p = np.stack([shares(x) for x in images])\n    return p.argmax(1), p.max(1)",
    "two lists": "p = [best(shares(x)) for x in images]\n    return [c for c, _ in p], [s for _, s in p]",
    "torch.max's": "p = np.stack([shares(x) for x in images])\n    return p.max(1), p.argmax(1)",
    "named arrays": "p = np.stack([shares(x) for x in images])\n    return {'pred': p.argmax(1), 'score': p.max(1)}",
}


@pytest.mark.parametrize("how", ARRAYS)
def test_arrays_of_answers_are_read(how: str, photos: str, write: Callable[..., Any], tmp_path: Path) -> None:
    if how == "tensors":
        pytest.importorskip("torch")
    body = "images = [x.convert('RGB') for x in images]\n    " + ARRAYS[how]
    module = write(f"def f(images):\n    {body}\nf.takes = 'images'\nf.classes = CLASSES")
    _, records = recorded(photos, module, tmp_path / "run")
    assert answers(records) == by_hand(photos, module)
    assert records.meta.class_names == ("red", "green", "blue")  # as it declares them
    sure = records.task.confidence(records.outputs).values
    assert len(np.unique(sure)) == 36
    alone = records.outputs.log_odds is None
    assert alone == (how in ("two arrays", "two lists", "torch.max's", "named arrays"))


@pytest.mark.parametrize("score", ["margin", "entropy", "energy"])
def test_other_scores_than_max_prob_are_refused_by_name_where_a_confidence_is_all(
    score: str, photos: str, write: Callable[..., Any], tmp_path: Path
) -> None:
    for alias, answer in (("saver", "pairs"), ("base", "dictionaries")):
        recorded(photos, write(TAKERS["images"], ANSWERS[answer]), tmp_path / "run", alias=alias)
    with pytest.raises(PilotfishError, match=rf"^{score} needs .* use (score )?max_prob"):
        tune(tmp_path / "run", ["saver", "base"], max_drop="50%", score=score, holdout=0, allow_bad_base=True)
