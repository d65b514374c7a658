"""docs/bring-your-own-model.md as a new user has it: models of twenty classes in every form, each recorded at exactly
the accuracy that plain code gives; then a cascade of them, held against other photos, and one request."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")
timm = pytest.importorskip("timm")
pytest.importorskip("onnx")
pytest.importorskip("transformers")
onnxruntime = pytest.importorskip("onnxruntime")

from pilotfish.models.backends import backends  # noqa: E402
from pilotfish.records import Run  # noqa: E402
from pilotfish.runtime import Cascade  # noqa: E402
from support import zoo  # noqa: E402
from support.process import command, refused  # noqa: E402
from support.quick import quick  # noqa: E402

PAGE = Path(__file__).parents[2] / "docs" / "bring-your-own-model.md"
BLOCK = re.compile(r"```(python)?\n(.*?)```(?:\n\n> (.*?)\n)?", re.DOTALL)

N = len(zoo.NAMES) * zoo.EACH


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The user's files."""
    made = tmp_path_factory.mktemp("zoo")
    with contextlib.chdir(made):
        train = zoo.photos(Path("train"), seed=0)
        zoo.photos(Path("photos"), seed=1)
        zoo.photos(Path("photos-next"), seed=2)
        half = zoo.timm_network("test_efficientnet", zoo.normalised(0.5, 0.5), train)
        torch.save({"arch": "test_efficientnet", "state_dict": half.state_dict()}, "half.pth")
        lite = zoo.timm_network("tf_efficientnet_lite2", zoo.normalised(*zoo.LITE), train, zoo.lite_trunk())
        torch.save(lite.state_dict(), "lite2.pth")
        zoo.onnx_file(Path("own.onnx"), train)
        zoo.centroids(Path("colours.npz"), train)
        zoo.transformers_folder(Path("vit"), train)
        zoo.predictions(Path("predictions.csv"), Path("photos"))
    return made


def images(side: int) -> Iterator[tuple[np.ndarray, str]]:
    """Every photo squeezed to *side* pixels, float32 (side, side, 3) from 0 to 255, and its class."""
    for path in sorted(Path("photos").glob("*/*")):
        image = Image.open(path).convert("RGB").resize((side, side), Image.Resampling.BICUBIC)
        yield np.asarray(image, np.float32), path.parent.name


def in_torch(name: str, file: str, mean: float, std: float, side: int) -> int:
    """How many photos a user's script gets right."""
    network = timm.create_model(name, num_classes=20).eval()
    state = torch.load(file, weights_only=True)
    network.load_state_dict(state.get("state_dict", state))
    batch = torch.stack([torch.from_numpy(((x / 255 - mean) / std).transpose(2, 0, 1)) for x, _ in images(side)])
    with torch.inference_mode():
        answers = network(batch).argmax(1).tolist()
    return sum(zoo.NAMES[k] == name for k, (_, name) in zip(answers, images(side), strict=True))


def in_onnx_runtime() -> int:
    session = onnxruntime.InferenceSession("own.onnx")
    answers = [session.run(None, {"x": x.transpose(2, 0, 1)[None]})[0].argmax() for x, _ in images(32)]
    return sum(zoo.NAMES[k] == name for k, (_, name) in zip(answers, images(32), strict=True))


def in_transformers() -> int:
    from transformers import pipeline

    classify = pipeline("image-classification", model="vit", device="cpu")
    return sum(classify(str(path))[0]["label"] == path.parent.name for path in Path("photos").glob("*/*"))


def in_numpy() -> int:
    """The nearest colours."""
    known = np.load("colours.npz")
    right = 0
    for x, name in images(32):
        halves = np.stack([x[:, :16].mean((0, 1)), x[:, 16:].mean((0, 1))]) / 255
        right += known["names"][((known["means"] - halves) ** 2).sum((1, 2)).argmin()] == name
    return int(right)


def in_the_file() -> int:
    rows = [line.split(",") for line in Path("predictions.csv").read_text().splitlines()[1:]]
    return sum(prediction == label for _, prediction, _, label in rows)


PLAIN: dict[str, Callable[[], int]] = {
    "mynet": lambda: in_torch("test_efficientnet", "half.pth", 0.5, 0.5, 32),
    "lite2": lambda: in_torch("tf_efficientnet_lite2", "lite2.pth", 0.498, 0.502, 64),
    "half": lambda: in_torch("test_efficientnet", "half.pth", 0.5, 0.5, 32),
    "own": in_onnx_runtime,
    "vit": in_transformers,
    "mine": in_numpy,
    "remote": in_the_file,
}


def typed(line: str) -> Any:
    words = shlex.split(line)[1:]
    record = ["--no-timing", "--batch-size", 32, "--workers", 1]
    more = {"build": ["--runs", 1, "--run", "run"], "record": record}.get(words[0], [])
    return command(Path(), *words, *more)


@pytest.fixture(scope="module")
def page(folder: Path) -> dict[str, str]:
    """The page, typed as it stands: what each command, and each script, prints."""
    printed = {}
    with contextlib.chdir(folder), pytest.MonkeyPatch.context() as patched:
        patched.setattr(backends, "_can_export", lambda model: False)  # an export takes seconds
        quick(patched)
        patched.syspath_prepend(folder)
        for language, block, said in BLOCK.findall(PAGE.read_text()):
            name = re.match(r"# (\w+\.py)\n", block)
            if language and name:
                Path(name[1]).write_text(block)
                continue
            if language:
                with contextlib.redirect_stdout(io.StringIO()) as out:
                    exec(compile(block, PAGE.name, "exec"), {"__name__": "script"})
                printed[block.strip().splitlines()[-1]] = out.getvalue()
                continue
            for line in block.splitlines():
                ended = typed(line)
                assert ended.returncode in (0, 3 if line.startswith("pilotfish evaluate") else 0), (line, ended.stderr)
                assert said in ended.stderr, (line, ended.stderr)
                printed[line] = ended.stdout
    return printed


@pytest.mark.parametrize("name", PLAIN)
def test_what_is_recorded_is_what_plain_code_gives(name: str, page: dict[str, str], folder: Path) -> None:
    records = Run(folder / "run").read(name)
    right = int((records.outputs.prediction == records.label).sum())
    with contextlib.chdir(folder):
        assert (len(records), right) == (N, PLAIN[name]())
    assert N / 2 <= right < N
    assert not any("assumed" in note for note in records.meta.notes)
    assert records.meta.class_names == zoo.NAMES or name in ("mynet", "lite2", "half", "mine")


def test_a_network_of_the_users_own_code_is_counted_as_any_other(page: dict[str, str], folder: Path) -> None:
    mine, half = (Run(folder / "run").read(name).meta.costs for name in ("mynet", "half"))
    assert mine["macs"] == half["macs"] > 0
    assert mine["params"] == half["params"]


def test_inspect_and_plain_code_say_the_same(page: dict[str, str], folder: Path) -> None:
    [script] = [out for line, out in page.items() if line.startswith("print(f")]
    records = Run(folder / "run").read("half")
    assert script.startswith(f"{int((records.outputs.prediction == records.label).sum())} of {len(records)} right")
    share = script.split()[-1]
    [row] = [line for line in page["pilotfish inspect run"].splitlines() if re.search(r"\bhalf\b", line)]
    assert share in row


def test_the_cascade_is_held_against_other_photos_and_answers_a_request(page: dict[str, str], folder: Path) -> None:
    [evaluated] = [out for line, out in page.items() if line.startswith("pilotfish evaluate")]
    assert evaluated
    [answered] = [out for line, out in page.items() if line.startswith("print(answer.name")]
    assert re.fullmatch(r"kind \w [01]\.\d+\n", answered)
    with contextlib.chdir(folder):
        cascade = Cascade.load("cascade")
        paths = [path for path, _ in zoo.samples(Path("photos-next"))][::10]
        expected = cascade.predict(paths)
        for path, one in zip(paths, expected, strict=True):
            found = cascade.predict_one(path.read_bytes())
            assert (found.prediction, found.name, found.stage, found.error) == (
                one.prediction,
                one.name,
                one.stage,
                None,
            )


def test_other_photos_may_lack_a_class_and_one_too_many_is_named(page: dict[str, str], folder: Path) -> None:
    """Also where the base names no classes: the cascade keeps those of the photos that it was recorded on."""
    shutil.copytree(folder / "photos-next", folder / "photos-19")
    shutil.rmtree(folder / "photos-19" / "kind h")
    ended = command(folder, "evaluate", "cascade", "--data", "folder:photos-19", "--json")
    assert ended.returncode in (0, 3), ended.stderr
    document = json.loads(ended.stdout)
    assert document["n"] == N - zoo.EACH
    assert not any("position" in note for note in document["notes"])
    shutil.copytree(folder / "photos-next" / "kind h", folder / "photos-19" / "umbrella")
    said = refused(command(folder, "evaluate", "cascade", "--data", "folder:photos-19"))
    assert "1 of its 20 class names are none of" in said
    assert "'umbrella' (nearest names: " in said or "'umbrella' (valid names: " in said
    assert f"{zoo.EACH} samples, umbrella/0.png the first; take what the model does not know out" in said
