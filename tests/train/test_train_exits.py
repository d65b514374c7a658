"""Training exits: what is frozen stays, what is killed resumes, and what comes out runs as a cascade."""

from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("timm")
pytest.importorskip("sklearn")
pytest.importorskip("onnxruntime")

import pilotfish  # noqa: E402
from pilotfish.data import load_data  # noqa: E402
from pilotfish.errors import ModelError, UsageError  # noqa: E402
from pilotfish.flow.demo import Recipe as Net  # noqa: E402
from pilotfish.flow.demo import train_demo_models  # noqa: E402
from pilotfish.models import Preprocessing, load_model  # noqa: E402
from pilotfish.models.exits.describe import read_network  # noqa: E402
from pilotfish.models.exits.msdnet import MSDNetConfig  # noqa: E402
from pilotfish.runtime.shared import whole  # noqa: E402
from pilotfish.train import Recipe, load_recipe, train_exits, train_msdnet  # noqa: E402
from pilotfish.train.losses import exit_losses, exit_weights  # noqa: E402
from support.process import command, environment  # noqa: E402

DIGITS = load_data("digits:train")
VAL = load_data("digits:val")
SHORT = Recipe(epochs=4, batch_size=64, learning_rate=2e-2, crop=1)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    nets = [Net("net", "convnet", width=16, epochs=6, learning_rate=5e-3)]
    [path] = train_demo_models(DIGITS, tmp_path_factory.mktemp("net"), nets, lambda *_: None)
    return path


@dataclasses.dataclass(frozen=True)
class Done:
    """A trained network of three exits, its records and a cascade."""

    folder: Path
    file: Path
    run: Path
    names: tuple[str, ...]
    cascade: Path


@pytest.fixture(scope="module")
def done(backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Done:
    folder = tmp_path_factory.mktemp("trained")
    trained = train_exits(
        f"checkpoint:{backbone}",
        DIGITS,
        folder / "out",
        layers=["5", "8"],
        recipe=SHORT,
        held_out=VAL,
        run=folder / "run",
        name="net",
    )
    assert [r.model for r in trained.records] == ["net#1", "net#2", "net#3"]
    names = tuple(r.model for r in trained.records)
    cascade = pilotfish.tune(folder / "run", names, max_drop=0.02, holdout=0).save(folder / "cascade")
    return Done(folder, trained.file, folder / "run", names, cascade)


def test_exits_learn_and_the_backbone_stays(done: Done, backbone: Path) -> None:
    document = json.loads((done.folder / "out" / "training.json").read_text())
    accuracy = document["trained"]["accuracy"]
    assert accuracy[0] > 0.3
    assert accuracy[1] > 0.8
    x = np.stack([load_model(f"checkpoint:{backbone}").preprocessing(VAL.read(i)) for i in range(50)])
    whole = load_model(f"checkpoint:{backbone}", backend="torch").run(x)
    last = load_model(f"exits:{done.file}#3", backend="torch").run(x)
    assert np.array_equal(whole, last), "exits off, the answers are the backbone's"
    run = pilotfish.open_run(done.run)
    for k, name in enumerate(done.names):  # what training measured is what was recorded
        records = run.read(name)
        assert float((records.outputs.prediction == records.label).mean()) == pytest.approx(
            accuracy[k], abs=2 / len(VAL)
        )


def test_the_records_are_of_one_network_and_share_its_cost(done: Done) -> None:
    run = pilotfish.open_run(done.run)
    metas = [run.read(name).meta for name in done.names]
    assert [(m.backbone, m.position) for m in metas] == [("net", 1), ("net", 2), ("net", 3)]
    assert len({m.weights_hash for m in metas}) == 1
    assert all("head_macs" in m.costs for m in metas)
    found = pilotfish.tune(done.run, done.names, max_drop=0.0, holdout=0)
    exit_ratio = found.calibration.exit_ratio
    macs = [m.costs["macs"] for m in metas]
    heads = [m.costs["head_macs"] for m in metas]
    through = [macs[0], macs[1] + heads[0], macs[2] + heads[0] + heads[1]]
    assert found.calibration.cost == pytest.approx(float(np.dot(exit_ratio, through)), rel=1e-9)


@pytest.mark.parametrize("stages", [(1, 2, 3), (1, 3), (2, 3)])
def test_the_cascade_answers_as_was_planned_whichever_exits_it_has(
    stages: tuple[int, ...], done: Done, tmp_path: Path
) -> None:
    names = [f"net#{k}" for k in stages]
    tuning = pilotfish.tune(done.run, names, max_drop=0.02, holdout=0)
    cascade = pilotfish.Cascade.load(tuning.save(tmp_path / "cascade"))
    assert [stage.shares for stage in cascade.engine_stages()] == [False] + [True] * (len(stages) - 1)
    answers = cascade.predict(VAL)
    table = {name: pilotfish.open_run(done.run).read(name).outputs for name in names}
    thresholds = [*tuning.artefact.operating_point.thresholds, -np.inf]
    flips = 0
    for i, answer in enumerate(answers):
        k = next(k for k, name in enumerate(names) if table[name].log_odds[i] >= thresholds[k])
        if (answer.stage, answer.prediction) != (k, int(table[names[k]].prediction[i])):
            flips += 1
            assert min(abs(table[n].log_odds[i] - t) for n, t in zip(names, thresholds[:-1], strict=False)) < 1e-3
    assert flips <= 2
    [one] = cascade.predict(np.stack([VAL.read(5)]))
    assert (one.stage, one.prediction) == (answers[5].stage, answers[5].prediction)


def test_a_cascade_folder_moves_with_its_network(done: Done, tmp_path: Path) -> None:
    from pilotfish.cascade import load_artefact
    from pilotfish.runtime import save_with_weights

    expected = pilotfish.Cascade.load(done.cascade).predict(VAL)
    save_with_weights(load_artefact(done.cascade), tmp_path / "embedded")
    moved = done.file.with_suffix(".gone")
    done.file.rename(moved)
    try:
        found = pilotfish.Cascade.load(tmp_path / "embedded").predict(VAL)
    finally:
        moved.rename(done.file)
    assert found == expected


def test_stages_as_onnx_files_answer_as_the_cascade(done: Done, tmp_path: Path) -> None:
    import onnxruntime

    found = pilotfish.export_stages(done.cascade, tmp_path / "stages", data=VAL)
    assert [(one.file, one.continues) for one in found.stages] == [
        ("stage1.onnx", False),
        ("stage2.onnx", True),
        ("stage3.onnx", True),
    ]
    document = json.loads((tmp_path / "stages" / "stages.json").read_text())
    thresholds = [float(t) for t in document["operating_point"]["shown"]]  # probabilities: the score is max_prob
    chain = Preprocessing.from_json(document["stages"][0]["preprocessing"])
    sessions = [onnxruntime.InferenceSession(tmp_path / "stages" / one["file"]) for one in document["stages"]]
    answers = pilotfish.Cascade.load(done.cascade).predict(VAL)
    for i in range(0, 300, 7):  # by hand, as another program would
        given = [chain(VAL.read(i))[np.newaxis]]
        for k, session in enumerate(sessions):
            logits, *given = session.run(None, dict(zip([x.name for x in session.get_inputs()], given, strict=True)))
            p = np.exp(logits[0] - logits.max()) / np.exp(logits[0] - logits.max()).sum()
            if k == 2 or p.max() >= thresholds[k]:
                break
        assert (k, int(p.argmax())) == (answers[i].stage, answers[i].prediction)
    again = pilotfish.export_stages(done.cascade, tmp_path / "stages")
    assert again.stages == found.stages
    (tmp_path / "stages" / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="holds something else"):
        pilotfish.export_stages(done.cascade, tmp_path / "stages")


def test_bench_and_tune_runtime_know_parts_of_a_network(done: Done, tmp_path: Path) -> None:
    tuning = pilotfish.tune(done.run, done.names, max_drop=0.02, holdout=0)
    folder = tuning.save(tmp_path / "cascade")
    found = pilotfish.tune_runtime(folder, VAL, seconds=0.2)
    assert [stage.stage for stage in found.stages] == list(done.names)
    assert all((stage.chosen.max_difference or 0) < 1e-4 for stage in found.stages)
    timed = pilotfish.bench(folder, VAL, exit_ratio=0.5, runs=1, samples=100)
    assert timed.exit_ratio == (0.5, 0.0, 0.5)
    assert timed.peers == ()
    assert timed.model_only.efficiency.median > 0
    assert timed.parts == (False, True, True)
    times, base = timed.end_to_end, pilotfish.Cascade.load(folder).models[-1]
    assert timed.speedup.median == pytest.approx(times.base_ms.median / times.realised_ms.median)
    x = np.stack([base.preprocessing(VAL.read(i)) for i in range(20)])
    timed_as = whole(base, "torch", None).step(x)[0]  # all of the network, and not what its last exit adds
    assert np.allclose(timed_as, base.run(x), atol=1e-4)


# killed and resumed

STEADY = Recipe(epochs=3, batch_size=64, learning_rate=5e-3, crop=1, freeze=False, mixup=0.5, cutmix=0.5)
SCRIPT = """
import json, os, signal, sys
from pilotfish.data import load_data
from pilotfish.train import Recipe, train_exits

replace = os.replace

def replace_and_die(source, target):
    replace(source, target)
    if os.path.basename(target) == "checkpoint.pt":
        os.kill(os.getpid(), signal.SIGKILL)

os.replace = replace_and_die
train_exits(sys.argv[1], load_data("digits:train"), sys.argv[2], layers=["2"], recipe=Recipe(**json.loads(sys.argv[3])))
"""


def test_killed_and_resumed_is_as_straight_through(backbone: Path, tmp_path: Path) -> None:
    name = f"checkpoint:{backbone}"
    straight = train_exits(name, DIGITS, tmp_path / "straight", layers=["2"], recipe=STEADY)
    recipe = json.dumps(dataclasses.asdict(STEADY))
    killed = subprocess.run(
        [sys.executable, "-c", SCRIPT, name, str(tmp_path / "killed"), recipe],
        env=environment(OMP_NUM_THREADS=str(torch.get_num_threads())),
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "killed" / "network.safetensors").exists()
    assert len(torch.load(tmp_path / "killed" / "checkpoint.pt", weights_only=True)["history"]) == 1
    resumed = train_exits(name, DIGITS, tmp_path / "killed", layers=["2"], recipe=STEADY)
    assert (straight.resumed, resumed.resumed) == (0, 1)
    epochs = [json.loads((tmp_path / out / "training.json").read_text())["epochs"] for out in ("straight", "killed")]
    assert epochs[0] == epochs[1]
    a, b = (read_network(found.file)[0].state_dict().values() for found in (straight, resumed))
    assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_a_checkpoint_of_another_training_is_not_resumed(backbone: Path, tmp_path: Path) -> None:
    name = f"checkpoint:{backbone}"
    one = dataclasses.replace(SHORT, epochs=1)
    first = train_exits(name, DIGITS, tmp_path, layers=["2"], recipe=one)
    again = train_exits(name, DIGITS, tmp_path, layers=["2"], recipe=one)
    assert (first.resumed, again.resumed) == (0, 1)
    with pytest.raises(ModelError, match="is of another training"):
        train_exits(name, DIGITS, tmp_path, layers=["2"], recipe=one, seed=1)
    (tmp_path / "checkpoint.pt").write_bytes(b"no checkpoint")
    with pytest.raises(ModelError, match="not a checkpoint that can be resumed"):
        train_exits(name, DIGITS, tmp_path, layers=["2"], recipe=one)


def test_msdnet_trains_and_is_recorded(tmp_path: Path) -> None:
    config = MSDNetConfig(10, blocks=2, channels=8, factors=(1, 2), colours=1)
    recipe = Recipe(epochs=2, batch_size=64, learning_rate=5e-3, freeze=False)
    found = train_msdnet(config, "digits:train", tmp_path, size=16, recipe=recipe, run=tmp_path / "run")
    assert [r.model for r in found.records] == ["msdnet#1", "msdnet#2"]
    assert found.accuracy[-1] > 0.3
    tuning = pilotfish.tune(tmp_path / "run", ["msdnet#1", "msdnet#2"], max_drop="10%", holdout=0)
    answers = pilotfish.Cascade.load(tuning.save(tmp_path / "cascade")).predict(VAL)
    assert all(answer.error is None for answer in answers)


def test_the_command(backbone: Path, tmp_path: Path) -> None:
    done = command(
        tmp_path,
        *("train", "exits", "--model", f"checkpoint:{backbone}", "--data", "digits:train", "--val", "digits:val"),
        *("--run", "run", "--out", "out", "--exits", "2", "--set", "epochs=1", "--as", "net", "--json"),
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert [r["model"] for r in document["records"]] == ["net#1", "net#2", "net#3"]
    assert (tmp_path / "out" / "training.png").stat().st_size > 1000
    tuned = command(tmp_path, "tune", "run", "--stages", "net#1,net#2,net#3", "--max-drop", "2%", "--out", "cascade")
    assert tuned.returncode == 0, tuned.stderr


# recipes, losses, variations


def test_recipes() -> None:
    assert load_recipe("exits") == dataclasses.replace(Recipe(), warm_up_epochs=1.0, crop=2)
    assert load_recipe("msdnet", {"epochs": 3}).epochs == 3
    with pytest.raises(UsageError, match=r"a recipe has no 'epoch'; nearest names?: epochs"):
        load_recipe("exits", {"epoch": 3})
    with pytest.raises(UsageError, match=r"epochs is 2.5, expected a whole number from 1 to 100,000"):
        load_recipe("exits", {"epochs": 2.5})
    with pytest.raises(UsageError, match="loss is 'sun', expected one of sum, distill"):
        load_recipe("exits", {"loss": "sun"})
    with pytest.raises(UsageError, match="no recipe 'vit'"):
        load_recipe("vit")


def test_random_weights_are_not_frozen() -> None:
    with pytest.raises(UsageError, match="has random weights, which would stay as they are"):
        train_exits("timm:resnet18?weights=random", DIGITS, "out")


@pytest.mark.parametrize("loss", ["sum", "distill", "self_distill"])
def test_losses_by_name(loss: str) -> None:
    torch.manual_seed(0)
    outputs = [torch.randn(8, 4, requires_grad=True) for _ in range(3)]
    labels = torch.randint(0, 4, (8,))
    recipe = Recipe(loss=loss, temperature=2.0, distillation=0.3)
    found = exit_losses(outputs, labels, recipe)
    for k, value in enumerate(found):
        expected = torch.nn.functional.cross_entropy(outputs[k], labels)
        if loss != "sum" and k < 2:
            teacher = outputs[2] if loss == "distill" else outputs[k + 1]
            p, q = (torch.softmax(z / 2.0, 1) for z in (outputs[k], teacher))
            expected = 0.7 * expected + 0.3 * 4.0 * (q * (q.log() - p.log())).sum(1).mean()
        torch.testing.assert_close(value, expected)
    found[0].backward()
    assert outputs[2].grad is None, "a teacher learns nothing from its pupils"
    assert sum(exit_weights(4, dataclasses.replace(recipe, weights="linear"))) == pytest.approx(4)


def test_a_plain_network_is_trained_alike_and_exits_can_be_attached_to_it(tmp_path: Path) -> None:
    recipe = Recipe(epochs=2, batch_size=64, learning_rate=5e-3, freeze=False)
    plain = train_exits(
        "small:convnet", DIGITS, tmp_path / "plain", exits=0, recipe=recipe, held_out=VAL, run=tmp_path / "run"
    )
    assert [r.model for r in plain.records] == ["small:convnet"], "a network of one exit keeps its name"
    assert pilotfish.open_run(tmp_path / "run").read("small:convnet").meta.backbone is None
    model = load_model(f"exits:{plain.file}")
    assert model.exit_of is None
    later = train_exits(f"exits:{plain.file}", DIGITS, tmp_path / "exits", layers=["5"], recipe=SHORT, held_out=VAL)
    assert later.accuracy[-1] == plain.accuracy[-1], "the backbone stays as it is"
    x = np.stack([model.preprocessing(VAL.read(i)) for i in range(20)])
    last = load_model(f"exits:{later.file}#2", backend="torch").run(x)
    assert np.array_equal(last, load_model(f"exits:{plain.file}", backend="torch").run(x))
