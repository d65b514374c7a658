"""``python:`` functions as people write them: what they take, what they answer with, and that both are kept."""

from __future__ import annotations

import dataclasses
import importlib
import itertools
import re
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
from pilotfish.errors import ModelError, PilotfishError
from pilotfish.models import load_model
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
    file = Path(said[0].input)
    others = [file.read_bytes(), Image.open(file), np.asarray(Image.open(file))]
    for one in (*cascade.predict(others), *map(cascade.predict_one, others), *(cascade.predict(o)[0] for o in others)):
        if takes in ("path", "paths"):
            assert "the model takes paths of files, and this sample is in none" in str(one.error)
        else:
            assert (one.error, one.prediction, one.stage) == (None, said[0].prediction, said[0].stage)


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


@pytest.mark.parametrize(
    ("hint", "takes"),
    [
        ("images: 'list[Image.Image]'", "images"),
        ("images: list[Image.Image]", "images"),
        ("paths: list[str]", "paths"),
        ("image: Image.Image", "image"),
        ("path: str", "path"),
        ("path: 'os.PathLike'", "path"),
    ],
)
def test_the_form_that_a_type_hint_names_is_tried_first(
    hint: str, takes: str, photos: str, write: Callable[..., Any], tmp_path: Path
) -> None:
    given = hint.partition(":")[0]
    module = write(
        "def f(HINT):\n    FORMS.append(type(GIVEN).__name__)\n"
        "    many = GIVEN if isinstance(GIVEN, (list, np.ndarray)) else [GIVEN]\n"
        "    p = [best(shares(Image.open(x) if isinstance(x, str) else x)) for x in many]\n"
        "    return p if many is GIVEN else p[0]\nFORMS = []\n".replace("HINT", hint).replace("GIVEN", given)
    )
    _, records = recorded(photos, module, tmp_path / "run")
    assert records.meta.spec.endswith(f":f?takes={takes}&activation=confidence")
    assert len(set(module.FORMS)) == 1
    assert answers(records) == by_hand(photos, module)


@pytest.mark.parametrize("answer", ["dict(zip(CLASSES, p))", "p.tolist()", "best(p)"])
def test_a_function_that_does_not_repeat_itself_is_named(
    answer: str, photos: str, write: Callable[..., Any], tmp_path: Path
) -> None:
    code = "RNG = np.random.default_rng(0)\ndef f(images):\n    return [one() for _ in images]\n"
    module = write(f"{code}def one():\n    p = RNG.dirichlet((9, 9, 9))\n    return {answer}")
    result, _ = recorded(photos, module, tmp_path / "run", "?takes=images")
    assert [note for note in result.notes if note.startswith("it does not repeat itself")]


@pytest.mark.parametrize("score", ["margin", "entropy", "energy"])
def test_other_scores_than_max_prob_are_refused_by_name_where_a_confidence_is_all(
    score: str, photos: str, write: Callable[..., Any], tmp_path: Path
) -> None:
    for alias, answer in (("saver", "pairs"), ("base", "dictionaries")):
        recorded(photos, write(TAKERS["images"], ANSWERS[answer]), tmp_path / "run", alias=alias)
    with pytest.raises(PilotfishError, match=rf"^{score} needs .* use (score )?max_prob"):
        tune(tmp_path / "run", ["saver", "base"], max_drop="50%", score=score, holdout=0, allow_bad_base=True)


@pytest.mark.parametrize("takes", ["images", "path", "array"])
def test_records_that_are_there_and_recordings_that_were_cut_off_ask_for_no_form_again(
    takes: str, photos: str, write: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = write(TAKERS[takes], ANSWERS["dictionaries"])
    cut = RecordOptions(timing=False, batch_size=6)
    name, run = f"python:{module.__name__}:f", tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr("pilotfish.recording.run_parts.PART_ROWS", 6)
        with pytest.raises(KeyboardInterrupt):
            record(photos, name, run, alias="f", options=cut, progress=stop_at(18))
    module.SEEN.clear()
    [resumed] = record(photos, name, run, alias="f", options=cut)
    assert (resumed.started, sum(module.SEEN)) == (18, 18)
    records = open_run(run).read("f")
    assert answers(records) == by_hand(photos, module)
    module.SEEN.clear()
    [again] = record(photos, name, run, alias="f", options=cut)
    assert (again.skipped, module.SEEN) == (True, [])
    assert set(resumed.notes) == set(again.notes)


def stop_at(done: int) -> Callable[[str, int, int], None]:
    def tell(model: str, so_far: int, n: int) -> None:
        if so_far == done:
            raise KeyboardInterrupt

    return tell


# what is wrong: (the code, what the answer of a sample with shares p is, what the one line says)
REFUSED = {
    "an unknown name": (
        "takes = 'images'",
        "lambda p: dict(zip(('red', 'gren', 'blue'), p))",
        "names 'gren', which is none of the 3 classes of folder:.*; nearest names: green.*; name the classes",
    ),
    "an unknown name in a pair": (
        "takes = 'images'",
        "lambda p: (('red', 'green', 'bleu')[p.argmax()], p.max())",
        "names 'bleu', which is none of the 3 classes of folder:.*; nearest names: blue",
    ),
    "an unknown name in a pipeline": (
        "takes = 'images'",
        "lambda p: [{'label': c, 'score': s} for c, s in zip(('rot', 'green', 'blue'), p)]",
        "names 'rot', which is none of the 3 classes",
    ),
    "a name that it does not declare": (
        "takes, f.classes = 'images', ['red', 'green']",
        "lambda p: dict(zip(CLASSES, p))",
        "names 'blue', which is none of its 2 classes",
    ),
    "a number that is none": (
        "takes = 'images'",
        "lambda p: (7, p.max())",
        "answers with class 7; expected 0 to 2",
    ),
    "scores of some classes": (
        "takes = 'images'",
        "lambda p: {CLASSES[i]: np.log(p[i]) for i in np.argsort(-p)[:2]}",
        "names some of its 3 classes, with numbers from .*; return all classes, or probabilities",
    ),
    "class names alone": ("takes = 'images'", "lambda p: best(p)[0]", "returns \\['.*'\\]; .* use `pilotfish import`"),
    "one class for itself": (
        "takes = 'images'",
        "lambda p: {'red': p[0] / 9}",
        "names 'red' alone, with .*; return all classes",
    ),
    "nothing": ("takes = 'images'", "lambda p: None", "returns \\[None\\]; expected for each sample scores"),
    "too many answers": (
        "takes = 'images'",
        "lambda p: p\nTOLD = told\ntold = lambda images, answer: TOLD(images, answer) * len(images)",
        "answers one sample, and for 4 at a time returns list of 16; expected one answer per sample",
    ),
    "a form that there is not": ("takes = 'pictures'", "best", "takes is one of batch, images, .*; found 'pictures'"),
    "a class named twice": ("takes, f.classes = 'images', ['a', 'b', 'a']", "best", "classes names 'a' twice"),
    "a file that is not there": ("files = ['gone.npz']", "best", "declares the file 'gone.npz', which exists neither"),
    "files that are none": ("files = 3", "best", "its attribute files is int; expected a list of paths"),
    "arrays that are none": ("arrays = {'w': 'x'}", "best", "its attribute arrays holds something else"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_read_is_refused_in_one_line(
    what: str, photos: str, write: Callable[..., Any], tmp_path: Path
) -> None:
    attribute, answer, said = REFUSED[what]
    module = write(f"{TAKERS['images']}\nf.{attribute}", answer)
    with pytest.raises(ModelError, match=said) as caught:
        recorded(photos, module, tmp_path / "run")
    assert len(str(caught.value).splitlines()) == 1
    assert sum(module.SEEN) <= 8


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("def f(x): raise KeyError('api key')", "KeyError: 'api key'"),
        ("def f(x):\n    import sys\n    sys.exit(3)", "SystemExit: 3"),
        ("def f(x): return {}['two\\nlines']", "KeyError: 'two"),
    ],
)
def test_a_function_that_fails_in_every_form_says_why_and_what_to_state(
    code: str, said: str, photos: str, write: Callable[..., Any], tmp_path: Path
) -> None:
    module = write(code)
    with pytest.raises(ModelError) as caught:
        recorded(photos, module, tmp_path / "run")
    assert said in str(caught.value)
    assert "state what it takes, as in takes = 'images'" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("takes", ["images", "path", "array"])
def test_a_sample_that_breaks_a_function_fails_alone(
    takes: str, photos: str, write: Callable[..., Any], tmp_path: Path
) -> None:
    root = Path(photos.removeprefix("folder:"))
    for file in ("red/3.png", "green/5.png", "blue/7.png"):
        Image.new("RGB", (9, 9)).save(root / file)
    module = write(f"{TAKERS[takes]}\nf.takes = {takes!r}", "lambda p: best(p) if np.ptp(p) else 1 / 0")
    result, records = recorded(photos, module, tmp_path / "run")
    assert {one.id for one in result.failures} == {"red/3.png", "green/5.png", "blue/7.png"}
    assert len(records) == 33
    given = {"images": "1 image", "path": "one path", "array": "one array"}[takes]
    assert all(f"failed on {given}: ZeroDivisionError" in one.reason for one in result.failures)


@pytest.mark.parametrize("option", ["size=8", "mean=0.5", "crop=squeeze"])
@pytest.mark.parametrize("takes", ["images", "path"])
def test_whole_samples_are_not_changed_by_options(takes: str, option: str, write: Callable[..., Any]) -> None:
    module = write(f"{TAKERS[takes]}\nf.takes = {takes!r}")
    with pytest.raises(ModelError, match=rf"leave {option.partition('=')[0]} out, or let it take arrays"):
        load_model(f"python:{module.__name__}:f?{option}")


@pytest.mark.parametrize("options", ["?size=8", "?size=6x8&mean=0.5&std=0.25", "?size=8&layout=nhwc&scale=0..255"])
def test_options_make_the_arrays_of_a_list(
    options: str, photos: str, write: Callable[..., Any], tmp_path: Path
) -> None:
    module = write(
        "def f(arrays):\n    assert isinstance(arrays, list)\n    return [a.reshape(-1)[:3] for a in arrays]\n"
        "def g(batch): return batch.reshape(len(batch), -1)[:, :3]\nf.takes = 'arrays'\n"
    )
    _, listed = recorded(photos, module, tmp_path / "run", options)
    record(photos, f"python:{module.__name__}:g{options}", tmp_path / "run", alias="g", options=QUIET)
    batch = open_run(tmp_path / "run").read("g")
    assert np.array_equal(listed.outputs.log_odds, batch.outputs.log_odds)
    assert listed.meta.preprocessing == batch.meta.preprocessing


@pytest.mark.parametrize("takes", ["paths", "path", "images"])
def test_data_without_files_or_images_are_refused(takes: str, write: Callable[..., Any], tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", x=np.random.default_rng(0).random((9, 5)), y=np.arange(9) % 3)
    module = write(f"{TAKERS[takes]}\nf.takes = {takes!r}", "best")
    with pytest.raises(
        PilotfishError, match="takes paths of files" if takes != "images" else "is not an image"
    ) as caught:
        recorded(f"arrays:{tmp_path / 'data.npz'}", module, tmp_path / "run")
    assert len(str(caught.value).splitlines()) == 1
    assert not module.SEEN


def test_vectors_are_given_one_by_one(write: Callable[..., Any], tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((40, 3))
    np.savez(tmp_path / "data.npz", x=x, y=x.argmax(axis=1))
    module = write("def f(x):\n    assert x.shape == (3,)\n    return {c: float(v) for c, v in zip('abc', x)}")
    result, records = recorded(f"arrays:{tmp_path / 'data.npz'}", module, tmp_path / "run")
    assert np.array_equal(records.outputs.prediction, x.argmax(axis=1))
    assert records.meta.class_names == ("a", "b", "c")
    assert any("in the order 0: 'a', 1: 'b', 2: 'c'" in note for note in result.notes)
    assert any("read as logits" in note for note in result.notes)


# what a function says of its classes: (its attributes, its answer, what is noted of it)
NOTED = {
    "a class that it never names counts as 0": (
        "takes = 'images'",
        "lambda p: dict(zip(CLASSES[:2], p[:2] / p[:2].sum()))",
        "it does not name 1 of the 3 classes of folder:.* \\('blue'\\): they count as 0",
    ),
    "the best two alone": ("takes = 'images'", ANSWERS["a pipeline's two best"], "it names 2 of its 3 classes"),
    "each class for itself": (
        "takes = 'images'",
        "lambda p: dict(zip(CLASSES, p ** .5))",
        "probabilities of one class against the rest each",
    ),
    "numbers of any size": ("takes = 'images'", "lambda p: dict(zip(CLASSES, np.log(p) + 1))", "are read as logits"),
    "percentages": ("takes = 'images'", "lambda p: dict(zip(CLASSES, 100 * p))", "sum to 100 .*: divide them by 100"),
    "a confidence": ("takes = 'images'", "best", "score max_prob alone can be had"),
    "other random numbers each time": (
        "takes = 'images'",
        "lambda p: dict(zip(CLASSES, np.random.default_rng().dirichlet(9 * p)))",
        "it does not repeat itself",
    ),
}


@pytest.mark.parametrize("what", NOTED)
def test_what_is_assumed_of_answers_is_said(what: str, photos: str, write: Callable[..., Any], tmp_path: Path) -> None:
    attribute, answer, said = NOTED[what]
    module = write(f"{TAKERS['images']}\nf.{attribute}", answer)
    result, records = recorded(photos, module, tmp_path / "run")
    assert records.meta.class_names == CLASSES
    [note] = [note for note in result.notes if re.search(said, note)]
    assert "\n" not in note


def test_one_class_less_in_the_data_than_the_function_names_is_fine(
    photos: str, write: Callable[..., Any], tmp_path: Path
) -> None:
    for file in (Path(photos.removeprefix("folder:")) / "green").iterdir():
        file.unlink()
    (file.parent).rmdir()
    module = write(TAKERS["images"], ANSWERS["dictionaries"])
    _, records = recorded(photos, module, tmp_path / "run")
    assert answers(records) == by_hand(photos, module)
    assert records.meta.class_names == ("red", "green", "blue")
    assert records.value == np.mean([name == file.split("/")[0] for file, name in by_hand(photos, module).items()])
