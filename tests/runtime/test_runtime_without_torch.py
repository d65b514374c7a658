"""An embedded cascade where ONNX Runtime is installed and torch is not: the same answers from the same folder."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")
timm = pytest.importorskip("timm")
pytest.importorskip("onnxruntime")

from safetensors.torch import save_file  # noqa: E402

from pilotfish.cascade import Artefact, load_artefact, save_artefact  # noqa: E402
from pilotfish.errors import ArtefactError, PilotfishError  # noqa: E402
from pilotfish.models import Preprocessing  # noqa: E402
from pilotfish.models.exits.describe import Description, build, save_network  # noqa: E402
from pilotfish.models.names.architectures import build_small  # noqa: E402
from pilotfish.models.names.checkpoint import save_checkpoint  # noqa: E402
from pilotfish.plan import tune  # noqa: E402
from pilotfish.recording import RecordOptions, record  # noqa: E402
from pilotfish.records import Run  # noqa: E402
from pilotfish.runtime import Cascade, save_with_weights  # noqa: E402
from pilotfish.runtime.embedded_onnx import embedded_onnx  # noqa: E402
from support.absent import without  # noqa: E402
from support.process import refused  # noqa: E402

TORCH = ("torch", "torchvision", "timm", "sklearn", "huggingface_hub", "onnxscript", "transformers")
GREY = Preprocessing(size=(8, 8), resize=None, mean=(0.5,), std=(0.3,))
KEPT = Path(__file__).parents[1] / "kept"


def of_a_checkpoint(folder: Path, dtype: str = "", chain: Preprocessing = GREY) -> list[str]:
    for seed, name in enumerate(("saver", "base")):
        torch.manual_seed(seed)
        arguments = {"num_classes": 4, "width": 16, "side": 8}
        module = build_small("mlp", 4, 16, 8)
        save_checkpoint(module, folder / f"{name}.safetensors", "small:mlp", arguments, chain, tuple("abcd"))
    return [f"checkpoint:{folder}/{name}.safetensors{dtype}" for name in ("saver", "base")]


def of_timm(folder: Path) -> list[str]:
    """By name, with weights of a file."""
    names = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        save_file(timm.create_model("test_resnet", num_classes=4).state_dict(), folder / f"{seed}.safetensors")
        names.append(f"timm:test_resnet@32?weights={folder}/{seed}.safetensors&num_classes=4")
    return names


def of_one_network(folder: Path) -> list[str]:
    """Three exits that share a backbone."""
    description = Description(
        kind="attached",
        classes=4,
        input_shape=(1, 8, 8),
        preprocessing=GREY,
        class_names=tuple("abcd"),
        backbone="small:convnet",
        arguments={"width": 8, "side": 8},
        exits=({"after": "2", "head": "linear", "width": 128}, {"after": "8", "head": "mlp", "width": 16}),
    )
    torch.manual_seed(0)
    save_network(build(description), description, folder / "net.safetensors")
    return [f"exits:{folder}/net.safetensors#{k}" for k in (1, 2, 3)]


KINDS: dict[str, Callable[[Path], list[str]]] = {
    "checkpoint": of_a_checkpoint,
    "timm": of_timm,
    "exits": of_one_network,
    "bfloat16": lambda folder: of_a_checkpoint(folder, "?dtype=bfloat16&backend=torch"),
    "resized": lambda folder: of_a_checkpoint(folder, chain=dataclasses.replace(GREY, resizer="torchvision")),
}


def tuned(kind: str, folder: Path) -> Artefact:
    """A cascade that a part of the photos leaves at every stage."""
    (folder / kind).mkdir()
    names = KINDS[kind](folder / kind)
    run = Run(folder / f"{kind}-run")
    record(f"folder:{folder}/photos", names, run, options=RecordOptions(timing=False, batch_size=8))
    artefact = tune(run, names, max_drop=1.0, holdout=0).artefact
    thresholds = [float(np.quantile(run.read(name).outputs.log_odds, 0.6)) for name in names[:-1]]
    point = dataclasses.replace(artefact.operating_point, thresholds=tuple(thresholds), decide_at=None)
    return dataclasses.replace(artefact, operating_point=point)


@dataclasses.dataclass(frozen=True)
class Embedded:
    """Cascade folders by kind, what they answered where torch was, and what was said when they were written."""

    folder: Path
    answers: dict[str, list[Any]]
    said: dict[str, list[str]]


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Embedded:
    folder = tmp_path_factory.mktemp("embedded")
    (folder / "photos").mkdir()
    rng = np.random.default_rng(0)
    for i in range(40):
        pixels = rng.integers(0, 256, (2, 2, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((32, 32)).save(folder / "photos" / f"{i:02}.png")
    answers, said = {}, {}
    for kind in KINDS:
        said[kind] = []
        save_with_weights(tuned(kind, folder), folder / f"{kind}-cascade", tell=said[kind].append)
        shutil.rmtree(folder / kind)
        answers[kind] = Cascade.load(folder / f"{kind}-cascade").predict([folder / "photos"])
    return Embedded(folder, answers, said)


def test_the_same_answers_without_torch(embedded: Embedded, tmp_path: Path) -> None:
    kinds = ["checkpoint", "timm", "exits"]
    onnx = f"onnx:{KEPT}/small.onnx,onnx:{KEPT}/big.onnx"
    shutil.copytree(embedded.folder, tmp_path, dirs_exist_ok=True)
    ended = without(
        TORCH,
        tmp_path,
        *(["predict", f"{kind}-cascade", "photos", "--json"] for kind in kinds),
        ["bench", "exits-cascade", "--data", "folder:photos", "--runs", "1", "--samples", "20"],
        ["tune-runtime", "exits-cascade", "--data", "folder:photos", "--seconds", "0.1"],
        ["predict", "exits-cascade", "photos", "--json"],
        ["export", "checkpoint-cascade", "--out", "cascade.onnx"],
        ["export", "exits-cascade", "--by-stage", "--out", "stages"],
        ["record", "--data", KEPT / "data.npz", "--model", onnx, "--run", "run", "--no-timing"],
        ["tune", "run", "--stages", onnx, "--max-drop", "2%", "--out", "onnx-cascade", "--embed"],
        ["evaluate", "onnx-cascade", "--data", KEPT / "data.npz"],
        ["evaluate", "checkpoint-cascade", "--data", "folder:photos", "--json"],
        ["predict", "bfloat16-cascade", "photos"],
    )
    assert [one.returncode for one in ended[:-1]] == [0] * (len(ended) - 1), [one.stderr for one in ended]
    for kind, one in zip([*kinds, "exits"], [*ended[:3], ended[5]], strict=True):
        found, expected = json.loads(one.stdout)["answers"], embedded.answers[kind]
        assert len({a.stage for a in expected}) == len(load_artefact(tmp_path / f"{kind}-cascade").stages)
        assert [(a["prediction"], a["stage"], a["name"]) for a in found] == [
            (a.prediction, a.stage, a.name) for a in expected
        ]
        assert [a["confidence"] for a in found] == pytest.approx([a.confidence for a in expected], abs=1e-5)
    assert "No other way to run it is timed: the stages share a network" in ended[3].stdout
    assert "pip install 'pilotfish[torch]'" in refused(ended[-1])


@pytest.mark.parametrize("kind", ["checkpoint", "timm", "exits"])
def test_a_folder_without_its_torch_weights_answers_as_before(kind: str, embedded: Embedded, tmp_path: Path) -> None:
    folder = shutil.copytree(embedded.folder / f"{kind}-cascade", tmp_path / "c")
    for file in (folder / "weights").glob("*.safetensors"):
        file.unlink()
    cascade = Cascade.load(folder)
    assert {runner.name for runner, _ in cascade.runners} == {"onnxruntime"}
    found = cascade.predict([embedded.folder / "photos"])
    assert [(a.prediction, a.stage, a.name) for a in found] == [
        (a.prediction, a.stage, a.name) for a in embedded.answers[kind]
    ]
    one = cascade.predict([embedded.folder / "photos" / "07.png"])[0]
    assert (one.prediction, one.stage) == (found[7].prediction, found[7].stage)
    with pytest.raises(PilotfishError):
        Cascade.load(folder, "cuda")


@pytest.mark.parametrize(
    ("kind", "why"),
    [("bfloat16", "ONNX Runtime runs float32 here"), ("resized", "saver.safetensors resizes images by torchvision")],
)
def test_what_cannot_run_without_torch_is_said(kind: str, why: str, embedded: Embedded) -> None:
    assert [embedded.said[kind] for kind in ("checkpoint", "timm", "exits")] == [[], [], []]
    [said] = embedded.said[kind]
    assert "the folder runs only where pilotfish[torch] is installed" in said
    assert why in said
    assert not list((embedded.folder / f"{kind}-cascade").rglob("*.onnx"))


def swap(folder: Path) -> str:
    first, second = sorted((folder / "weights").glob("*.onnx"))
    first.write_bytes(second.read_bytes())
    return "not the ONNX file that was embedded"


def flip(folder: Path) -> str:
    file = folder / "weights" / "0.onnx"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    return "not the ONNX file|not a readable ONNX file|ONNX"


def other_weights(folder: Path) -> str:
    """An ONNX file of other weights than those recorded, with its hash set right."""
    artefact = load_artefact(folder)
    one, other = artefact.stages
    moved = dataclasses.replace(one, onnx_file=other.onnx_file, onnx_hash=other.onnx_hash)
    save_artefact(dataclasses.replace(artefact, stages=(moved, other)), folder)
    return "not the ONNX file that was embedded"


def outside(folder: Path) -> str:
    file = folder / "weights" / "0.onnx"
    file.rename(folder.with_name("0.onnx"))
    file.symlink_to(folder.with_name("0.onnx"))
    return "outside the cascade folder; refused"


def missing(folder: Path) -> str:
    (folder / "weights" / "0.onnx").unlink()
    return "the embedded weights weights/0.onnx are missing"


def unsealed(folder: Path) -> str:
    document = json.loads((folder / "cascade.json").read_text())
    del document["stages"][0]["onnx_hash"]
    (folder / "cascade.json").write_text(json.dumps(document))
    return "has no onnx_hash"


def preprocessing(folder: Path) -> str:
    document = json.loads((folder / "cascade.json").read_text())
    document["stages"][0]["preprocessing"]["mean"] = [0.25]
    (folder / "cascade.json").write_text(json.dumps(document))
    return "the thresholds were made for other preprocessing"


@pytest.mark.parametrize("spec", ["exits:net.safetensors", "timm:resnet18", "exits:net.safetensors#²", "hf:vit"])
def test_a_stage_of_a_network_that_names_no_exit_is_refused(spec: str, embedded: Embedded, tmp_path: Path) -> None:
    folder = shutil.copytree(embedded.folder / "exits-cascade", tmp_path / "c")
    artefact = load_artefact(folder)
    stage = dataclasses.replace(artefact.stages[1], spec=spec)
    with pytest.raises(ArtefactError, match="names no exit"):
        embedded_onnx(stage, folder)


@pytest.mark.parametrize("harm", [swap, flip, other_weights, outside, missing, unsealed, preprocessing])
def test_another_file_than_was_embedded_is_refused(
    harm: Callable[[Path], str], embedded: Embedded, tmp_path: Path
) -> None:
    folder = shutil.copytree(embedded.folder / "checkpoint-cascade", tmp_path / "c")
    for file in (folder / "weights").glob("*.safetensors"):
        file.unlink()
    said = harm(folder)
    with pytest.raises((ArtefactError, PilotfishError), match=said) as caught:
        Cascade.load(folder)
    assert "\n" not in str(caught.value)


def test_embedding_twice_is_as_embedding_once(embedded: Embedded, tmp_path: Path) -> None:
    folder = shutil.copytree(embedded.folder / "checkpoint-cascade", tmp_path / "c")
    artefact = load_artefact(folder)
    before = {file.name: file.read_bytes() for file in (folder / "weights").iterdir()}
    save_with_weights(artefact, folder)
    assert {file.name: file.read_bytes() for file in (folder / "weights").iterdir()} == before
    assert load_artefact(folder).stages == artefact.stages
