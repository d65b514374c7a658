"""Exit sequences and routers of real pairs: trained, recorded, run."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

torch = pytest.importorskip("torch")
pytest.importorskip("timm")
pytest.importorskip("sklearn")
pytest.importorskip("onnxruntime")

import pilotfish  # noqa: E402
from pilotfish.cli.train_command import _show_grid  # noqa: E402
from pilotfish.data import load_data  # noqa: E402
from pilotfish.errors import DataError, ModelError, UsageError  # noqa: E402
from pilotfish.flow.demo import Recipe as Net  # noqa: E402
from pilotfish.flow.demo import train_demo_models  # noqa: E402
from pilotfish.models import load_model  # noqa: E402
from pilotfish.report.format import percent  # noqa: E402
from pilotfish.train import Recipe, load_recipe, train_esn, train_exits, train_router  # noqa: E402
from support.process import command  # noqa: E402

DIGITS, VAL = load_data("digits:train"), load_data("digits:val")
SHORT = Recipe(epochs=5, batch_size=64, learning_rate=1e-2, loss="saver_weighted")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    nets = [Net("saver", "mlp", 8, 6, 5e-3), Net("base", "convnet", 16, 6, 5e-3)]
    saver, base = train_demo_models(DIGITS, tmp_path_factory.mktemp("pair"), nets, lambda *_: None)
    return f"checkpoint:{saver}", f"checkpoint:{base}"


def test_an_exit_sequence_learns_and_leaves_saver_and_base_alone(pair: tuple[str, str], tmp_path: Path) -> None:
    found = train_esn(
        *pair, DIGITS, tmp_path / "esn", layers=["2", "8"], recipe=SHORT, held_out=VAL, run=tmp_path / "run"
    )
    names = [r.model for r in found.records]
    assert names == ["esn#1", "esn#2", "esn#3", "esn#4"]
    saver, _, late, base = found.accuracy
    x = np.stack([load_model(pair[0]).preprocessing(VAL.read(i)) for i in range(60)])
    for model, k in zip(pair, (1, 4), strict=True):
        whole = load_model(model, backend="torch").run(x)
        assert np.array_equal(whole, load_model(f"exits:{found.file}#{k}", backend="torch").run(x))
    assert late > saver, "an exit that reads most of the base beats the saver"
    assert base > saver
    tuning = pilotfish.tune(tmp_path / "run", names, max_drop=0.01, method="dyce", holdout=0)
    cascade = pilotfish.Cascade.load(tuning.save(tmp_path / "cascade"))
    answers = cascade.predict(VAL)
    right = np.mean([a.prediction == label for a, label in zip(answers, VAL.labels, strict=True)])
    assert right == pytest.approx(tuning.calibration.accuracy, abs=2 / len(VAL))


def test_the_grid_keeps_the_best_and_all_folders(pair: tuple[str, str], tmp_path: Path) -> None:
    recipe = Recipe(epochs=1, batch_size=64, learning_rate=1e-2, loss="saver_weighted")
    found = train_esn(*pair, DIGITS, tmp_path, layers=["8"], dims=(8, 16), attention=(0, 1), recipe=recipe)
    each = {
        path.parent.name: json.loads(path.read_text())["trained"]["accuracy"][1]
        for path in tmp_path.glob("*/training.json")
    }
    assert sorted(each) == ["dim16-layers0", "dim16-layers1", "dim8-layers0", "dim8-layers1"]
    assert each[found.file.parent.name] == max(each.values())
    assert {folder: accuracy[1] for folder, accuracy in found.grid.items()} == each
    assert found.to_json()["grid"][found.file.parent.name] == list(found.accuracy)
    shown = io.StringIO()
    _show_grid(Console(file=shown, width=120), found)
    lines = shown.getvalue().splitlines()
    assert f"kept: {found.file.parent.name}" in lines[0]
    assert all(any(folder in line and percent(one) in line for line in lines) for folder, one in each.items())


def test_pairs_that_are_none(pair: tuple[str, str], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="has random weights"):
        train_esn("timm:resnet18?weights=random&num_classes=10", pair[1], DIGITS, tmp_path)
    short, larger = Recipe(epochs=1, freeze=False), {"side": 10}
    other = train_exits("small:convnet", DIGITS, tmp_path / "other", exits=0, arguments=larger, recipe=short)
    with pytest.raises(ModelError, match=r"take other inputs \(size .*10.* and .*8"):
        train_esn(f"exits:{other.file}", pair[1], DIGITS, tmp_path / "esn")
    with pytest.raises(UsageError, match='loss = "saver_weighted"'):
        train_esn(*pair, DIGITS, tmp_path, recipe=Recipe())
    with pytest.raises(UsageError, match="unknown router 'post'"):
        train_router(*pair, DIGITS, tmp_path, kind="post")
    with pytest.raises(DataError, match="the saver suffices for all"):
        train_router(pair[1], pair[1], DIGITS, tmp_path)


def test_the_recipe_is_table_7() -> None:
    recipe = load_recipe("esn")
    assert (recipe.optimiser, recipe.learning_rate, recipe.schedule) == ("adamw", 6.25e-4, "cosine")
    assert (recipe.mixup, recipe.cutmix, recipe.auto_augment, recipe.epochs) == (0.8, 1.0, True, 10)


def test_equation_11() -> None:
    from pilotfish.train.losses import exit_losses

    torch.manual_seed(0)
    outputs = [torch.randn(16, 4, requires_grad=True) for _ in range(4)]
    labels = torch.randint(0, 4, (16,))
    found = exit_losses(outputs, labels, Recipe(loss="saver_weighted"))
    confidence = torch.softmax(outputs[0], 1).max(1).values
    for k in (1, 2):
        each = [-torch.log_softmax(outputs[k], 1)[m, labels[m]] for m in range(16)]
        torch.testing.assert_close(found[k], sum(2 * (1 - c) * e for c, e in zip(confidence, each, strict=True)) / 16)
    assert found[0] == found[3] == 0
    sum(found).backward()
    assert outputs[0].grad is None
    assert outputs[3].grad is None


@pytest.mark.parametrize("kind", ["prior", "evaluator"])
def test_routers_know_more_than_chance(kind: str, pair: tuple[str, str], tmp_path: Path) -> None:
    found = train_router(
        *pair, VAL, tmp_path / "router", kind=kind, held_out=DIGITS, recipe=Recipe(epochs=8, batch_size=64)
    )
    model = load_model(f"exits:{found.file}")
    x = np.stack([model.preprocessing(DIGITS.read(i)) for i in range(len(DIGITS))])
    saver, base = (load_model(name).run(x).argmax(1) for name in pair)
    logits = model.run(x)
    assert np.array_equal(logits.argmax(1), saver), "the answers are the saver's"
    needed = (base == DIGITS.labels) & (saver != DIGITS.labels)
    top = torch.softmax(torch.from_numpy(logits), 1).amax(1).numpy()
    chance = (top[needed][:, None] < top[~needed][None]).mean()  # AUROC
    assert chance > 0.6
    assert 0 < model.count().costs["head_macs"] < model.count().costs["macs"]


def test_the_commands(pair: tuple[str, str], tmp_path: Path) -> None:
    common = ("--saver", pair[0], "--base", pair[1], "--run", "run", "--set", "epochs=1", "--json")
    esn = command(tmp_path, "train", "esn", *common, "--data", "digits:train", "--out", "esn", "--exits", "1")
    assert esn.returncode == 0, esn.stderr
    assert [r["model"] for r in json.loads(esn.stdout)["records"]] == ["esn#1", "esn#2", "esn#3"]
    done = command(tmp_path, "train", "esn", *common, "--dim", "8;9", "--data", "digits:train", "--out", "other")
    assert (done.returncode, done.stdout) == (1, "")
    assert "--dim takes whole numbers separated by commas" in done.stderr
