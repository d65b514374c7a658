"""What a training refuses before it begins, and what it never loses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("timm")
pytest.importorskip("sklearn")

import pilotfish  # noqa: E402
from pilotfish.data import load_data  # noqa: E402
from pilotfish.errors import DataError, ModelError, PilotfishError, UsageError  # noqa: E402
from pilotfish.models import Preprocessing  # noqa: E402
from pilotfish.models.exits.describe import read_network  # noqa: E402
from pilotfish.models.exits.msdnet import MSDNetConfig  # noqa: E402
from pilotfish.models.names.architectures import build_backbone  # noqa: E402
from pilotfish.train import Recipe, load_recipe, train_esn, train_exits, train_msdnet, train_router  # noqa: E402
from pilotfish.train.backbone import find_backbone  # noqa: E402
from pilotfish.train.recipe import parse_changes  # noqa: E402
from support.process import command  # noqa: E402

DIGITS = load_data("digits:val")
ONCE = Recipe(epochs=1, batch_size=64, freeze=False)


def plain(out: Path, **more: Any) -> Any:
    """A small network without exits, an epoch long."""
    return train_exits("small:mlp", DIGITS, out, exits=0, **{"recipe": ONCE, **more})


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(plain(tmp_path_factory.mktemp("trained")).file)


@pytest.mark.parametrize("name", ["network.safetensors", "training.json", "training.png"])
def test_another_network_is_not_overwritten(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"mine")
    with pytest.raises(UsageError, match=f"holds {name} of another training"):
        plain(tmp_path)
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [(name, b"mine")]


def test_links_are_not_replaced(tmp_path: Path) -> None:
    for name, said in (("network.safetensors", "another training"), ("checkpoint.pt", "is no file")):
        folder = tmp_path / name
        folder.mkdir()
        (folder / name).symlink_to("elsewhere")
        with pytest.raises(UsageError, match=said):
            plain(folder)
        assert (folder / name).is_symlink()


def test_what_is_refused_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="expected small:mlp or small:convnet"):
        train_exits("small:", DIGITS, tmp_path / "a" / "b", run=tmp_path / "run", name="n", recipe=ONCE)
    assert list(tmp_path.iterdir()) == []


def test_records_of_that_name_are_found_before_the_training(tmp_path: Path) -> None:
    first = plain(tmp_path / "one", run=tmp_path / "run", name="net")
    before = {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()}
    with pytest.raises(UsageError, match="records of another network; name these ones with --as"):
        plain(tmp_path / "two", run=tmp_path / "run", name="net")
    assert not (tmp_path / "two" / "network.safetensors").exists()
    assert {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()} == before
    again = plain(tmp_path / "one", run=tmp_path / "run", name="net")
    assert again.resumed == 1
    assert again.accuracy == first.accuracy


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(PilotfishError, match="file"):
        plain(tmp_path / "file")
    with pytest.raises(UsageError, match="is a file; expected a folder of records"):
        plain(tmp_path / "out", run=tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_loss_that_is_no_number_is_not_kept(tmp_path: Path) -> None:
    hot = Recipe(epochs=3, batch_size=64, freeze=False, optimiser="sgd", learning_rate=1e30)
    with pytest.raises(ModelError, match=r"not finite in epoch 1, which was not kept; lower learning_rate"):
        plain(tmp_path, recipe=hot)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("seed", [-1, 2**31, 10**30])
def test_seeds(seed: int, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a seed is a whole number from 0"):
        plain(tmp_path, seed=seed)


@pytest.mark.parametrize("device", ["foo", "cuda:99", ""])
def test_devices(device: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be used here"):
        plain(tmp_path, device=device)


def test_networks_that_do_not_take_the_pictures(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"does not take inputs of 1x8x8"):
        train_msdnet(MSDNetConfig(10, blocks=2, colours=1), DIGITS, tmp_path, recipe=ONCE)
    np.savez(tmp_path / "colour.npz", x=np.zeros((20, 8, 8, 3), np.uint8), y=np.arange(20) % 2)
    colour = load_data(f"arrays:{tmp_path / 'colour.npz'}")
    with pytest.raises(ModelError, match="colour"):
        train_exits("small:convnet", colour, tmp_path, exits=0, recipe=ONCE)
    with pytest.raises(ModelError, match="write exits:FILE alone"):
        train_exits(f"exits:{trained}@32", DIGITS, tmp_path, recipe=ONCE)
    assert [p.name for p in tmp_path.iterdir()] == ["colour.npz"]


@pytest.mark.parametrize("left_out", ["weights=w.pth", "mean=0.5", "size=32"])
def test_a_network_that_is_built_anew_takes_nothing_of_its_name_in_silence(left_out: str) -> None:
    with pytest.raises(
        ModelError, match="with arguments the network is built anew, for the data and with fresh weights"
    ):
        find_backbone(f"timm:test_resnet?{left_out}", DIGITS, {"stem_chs": 8})


def test_samples_that_can_judge_nothing(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is what is trained on, so it can judge nothing"):
        plain(tmp_path, held_out="digits:val")
    np.savez(tmp_path / "one.npz", x=np.zeros((20, 8, 8), np.uint8), y=np.zeros(20, np.int64))
    with pytest.raises(DataError, match="has one class"):
        train_exits("small:mlp", f"arrays:{tmp_path / 'one.npz'}", tmp_path / "out", exits=0, recipe=ONCE)


def test_a_plain_network_is_never_frozen(tmp_path: Path) -> None:
    found = plain(tmp_path, recipe=Recipe(epochs=1, freeze=True))
    assert json.loads((tmp_path / "training.json").read_text())["trained"]["recipe"]["freeze"] is False
    assert read_network(found.file)[1].input_shape == (1, 8, 8)


def test_at_most_half_of_a_training_warms_up() -> None:
    from pilotfish.train.loop import learning_rate

    recipe = Recipe(epochs=2, warm_up_epochs=100, schedule="constant", learning_rate=1)
    assert learning_rate(recipe, 0.5) < 0.6
    assert learning_rate(recipe, 1.0) == learning_rate(recipe, 1.9) == 1


def test_small_networks_see_whole_pictures(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "x.npz", x=rng.integers(0, 256, (40, 14, 14), np.uint8), y=np.arange(40) % 2)
    found = train_exits("small:convnet", f"arrays:{tmp_path / 'x.npz'}", tmp_path / "out", exits=0, recipe=ONCE)
    assert read_network(found.file)[1].input_shape == (1, 14, 14)


def test_a_loss_of_exit_sequences_is_theirs_alone(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="saver_weighted is of exit sequences"):
        plain(tmp_path, recipe=Recipe(epochs=1, freeze=False, loss="saver_weighted"))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("epochs", 10**12),
        ("epochs", 1e308),
        ("batch_size", 10**400),
        ("learning_rate", 10**400),
        ("learning_rate", float("nan")),
        ("steps", [10**400]),
        ("steps", [1.5]),
        ("exit_weights", [[1]]),
        ("crop", 10**9),
        ("warm_up_epochs", -1),
    ],
)
def test_numbers_of_recipes(key: str, value: object) -> None:
    with pytest.raises(UsageError, match=key):
        load_recipe("exits", {key: value})


@pytest.mark.parametrize("text", ["epochs", "epochs" * 200 + "=1", "=3"])
def test_changes_name_their_option(text: str) -> None:
    with pytest.raises(UsageError, match=r"--argument|a recipe has no"):
        load_recipe("exits", parse_changes([text], "--argument"))
    assert parse_changes(["x=" + "[" * 400])["x"] == "[" * 400


def test_damaged_checkpoints(tmp_path: Path) -> None:
    plain(tmp_path)
    file = tmp_path / "checkpoint.pt"
    whole = torch.load(file, weights_only=True)
    for broken in (
        {**whole, "history": [[1, 0.1, [0.1], [0.5]]]},
        {**whole, "history": []},
        {**whole, "network": {k: v + 1 for k, v in whole["network"].items()}},
        {**whole, "optimiser": {**whole["optimiser"], "param_groups": [{"params": [0]}]}},
        {**whole, "optimiser": {**whole["optimiser"], "state": {0: {"step": torch.tensor(1.0)}, 1: {}}}},
        {k: v for k, v in whole.items() if k != "network"},
        {},
    ):
        torch.save(broken, file)
        with pytest.raises(ModelError, match=r"checkpoint.pt: not a checkpoint that can be resumed \(\w+"):
            plain(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"input_shape": [1, -8, 8]},
        {"input_shape": "x"},
        {"classes": 10**9},
        {"arguments": {"side": []}},
        {"class_names": ["a"]},
        {"preprocessing": {}},
    ],
)
def test_edited_metadata(change: dict[str, Any], trained: Path, tmp_path: Path) -> None:
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    with safe_open(trained, framework="pt") as opened:
        metadata = opened.metadata()
    [key] = [k for k, v in metadata.items() if "input_shape" in v]
    described = json.loads(metadata[key])
    assert change.keys() <= described.keys()
    save_file(load_file(trained), tmp_path / "edited", {**metadata, key: json.dumps({**described, **change})})
    with pytest.raises(ModelError, match="edited"):
        read_network(tmp_path / "edited")


def test_the_structure_is_part_of_the_identity(trained: Path, tmp_path: Path) -> None:
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    from pilotfish.models import load_model

    exits = train_exits(f"exits:{trained}", DIGITS, tmp_path, layers=["1"], recipe=Recipe(epochs=1, batch_size=64)).file
    with safe_open(exits, framework="pt") as opened:
        metadata = {k: v.replace('"after": "1"', '"after": "2"') for k, v in opened.metadata().items()}
    save_file(load_file(exits), tmp_path / "edited.safetensors", metadata)
    mine, edited = (load_model(f"exits:{file}#1") for file in (exits, tmp_path / "edited.safetensors"))
    assert mine.weights_hash != edited.weights_hash


def test_a_router_overwrites_no_records(trained: Path, tmp_path: Path) -> None:
    from pilotfish.recording import RecordOptions, record
    from pilotfish.records import Run

    digits, answers, split = load_data("digits:train"), Run(tmp_path / "out" / "answers"), RecordOptions(split="train")
    [kept] = record(digits, f"exits:{trained}", answers, alias="saver", options=split)
    before = kept.path.read_bytes()
    with pytest.raises(UsageError, match="holds answers of other models or samples"):
        train_router(f"exits:{trained}", f"exits:{trained}", DIGITS, tmp_path / "out")
    assert kept.path.read_bytes() == before
    record(digits, f"exits:{trained}", Run(tmp_path / "run"))
    with pytest.raises(UsageError, match="of other samples or weights than the router is judged on"):
        train_router(f"exits:{trained}", f"exits:{trained}", DIGITS, tmp_path / "new", run=tmp_path / "run")


def test_a_router_records_its_base_beside_it(trained: Path, tmp_path: Path) -> None:
    better = train_exits(
        "small:convnet", DIGITS, tmp_path / "base", exits=0, recipe=Recipe(epochs=4, batch_size=64, freeze=False)
    )
    found = train_router(
        f"exits:{trained}", f"exits:{better.file}#1", DIGITS, tmp_path / "router", kind="evaluator",
        run=tmp_path / "run", recipe=Recipe(epochs=1, batch_size=64),
    )  # fmt: skip
    router, base = found.records
    assert router.n == base.n
    tuning = pilotfish.tune(tmp_path / "run", [router.model, base.model], max_drop="50%", holdout=0)
    assert tuning.calibration.cost < tuning.calibration.base_cost


def test_the_commands_say_what_is_wrong(trained: Path, tmp_path: Path) -> None:
    given = ("--data", "digits:val", "--out", "o", "--run", "r")
    for wrong, said in (
        (("exits", "--model", "small:mlp", "--device", "foo"), "the device 'foo' cannot be used here"),
        (("esn", "--saver", f"exits:{trained}", "--base", f"exits:{trained}", "--dim", "100000"), "dim"),
    ):
        done = command(tmp_path, "train", *wrong, *given)
        assert (done.returncode, done.stdout) == (1, "")
        assert said in done.stderr
        assert "Traceback" not in done.stderr
        assert "fault" not in done.stderr
    assert not (tmp_path / "r").exists()


def test_grids_look_at_every_folder_first(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "dim16-layers0").mkdir()
    (tmp_path / "dim16-layers0" / "training.json").write_text("{}")
    with pytest.raises(UsageError, match=r"dim16-layers0 holds training.json of another training"):
        train_esn(f"exits:{trained}", f"exits:{trained}", DIGITS, tmp_path, layers=["2"], dims=(8, 16), attention=(0,))
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["training.json"]


@pytest.mark.parametrize("architecture", ["timm:test_vit", "timm:test_vit@96"])
def test_a_backbone_of_another_size_is_built_again_for_it(architecture: str, tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    state = timm.create_model("test_vit", num_classes=10, img_size=96).state_dict()
    chain = Preprocessing(size=(96, 96), resize=96).to_json()
    torch.save({"architecture": architecture, "preprocessing": chain, "state_dict": state}, tmp_path / "w.pth")
    found = find_backbone(f"checkpoint:{tmp_path}/w.pth", DIGITS)
    assert (found.name, found.arguments, found.input_shape) == ("timm:test_vit", {"img_size": 96}, (3, 96, 96))
    build_backbone(found.name, found.arguments, found.classes).load_state_dict(state)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda out: train_exits(3, DIGITS, out), "train_exits: model is 3, expected str"),
        (lambda out: train_exits("m", out, out), "train_exits: data is PosixPath"),
        (lambda out: train_exits("m", DIGITS, 3), "train_exits: out is 3, expected str | Path"),
        (lambda out: train_exits("m", DIGITS, out, layers="layer2"), "layers is 'layer2', expected Sequence[str]"),
        (lambda out: train_exits("m", DIGITS, out, exits="3"), "exits is '3', expected int"),
        (lambda out: train_msdnet({}, DIGITS, out), "train_msdnet: config is {}, expected MSDNetConfig"),
        (lambda out: train_esn("a", None, DIGITS, out), "train_esn: base is None, expected str"),
        (lambda out: train_esn("a", "b", DIGITS, out, dims=32), "train_esn: dims is 32, expected Sequence[int]"),
        (lambda out: train_router("a", "b", DIGITS, out, recipe="exits"), "recipe is 'exits', expected Recipe | None"),
    ],
)
def test_values_of_other_types_are_refused_by_name(call: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refused:
        call(tmp_path / "out")
    assert said in str(refused.value)
    assert not (tmp_path / "out").exists()
