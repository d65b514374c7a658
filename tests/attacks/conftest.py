"""What the attacks have in common: a cascade and a run to spoil, and how every one of them must end."""

from __future__ import annotations

import json
import shutil
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pilotfish.cli.main import run as command_line
from pilotfish.plan import tune
from pilotfish.records import RecordsMeta, Run
from support.pairs import Pair
from support.process import PREFIX
from support.runs import write_pair

Edit = Callable[[Callable[[dict[str, Any]], Any]], Path]
Refused = Callable[..., str]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Records of ``saver`` and ``base``, imported."""
    rng = np.random.default_rng(0)
    pair = Pair(rng.random(80).tolist(), (rng.random(80) < 0.8).tolist(), (rng.random(80) < 0.9).tolist())
    return write_pair(tmp_path / "run", pair, column="log_odds")


@pytest.fixture
def cascade(run: Run, tmp_path: Path) -> Path:
    """A cascade of imported records: a folder with ``cascade.json`` and nothing that could be run."""
    return tune(run, ["saver", "base"], max_drop=0.05).save(tmp_path / "cascade")


@pytest.fixture
def edit(cascade: Path) -> Edit:
    """Change the document of the cascade by a function; returns the folder."""

    def change(how: Callable[[dict[str, Any]], Any]) -> Path:
        file = cascade / "cascade.json"
        document = json.loads(file.read_text())
        how(document)
        file.write_text(json.dumps(document))
        return cascade

    return change


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """A file that the attack's code writes when it runs."""
    return tmp_path / "it-ran"


@pytest.fixture
def evil(tmp_path: Path, marker: Path) -> str:
    """A module in the working directory-to-be that leaves the marker as soon as it is imported; returns its name."""
    name = f"evil_{abs(hash(str(tmp_path))) % 10**9}"
    (tmp_path / f"{name}.py").write_text(f"open({str(marker)!r}, 'w').close()\ndef f(batch): return batch\n")
    return name


@pytest.fixture
def shown(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str, str]]:
    """Run the command line in this process: (exit code, stdout, stderr)."""

    def ends(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["pilotfish", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            command_line()
        found = capsys.readouterr()
        return int(ended.value.code or 0), found.out, found.err

    return ends


@pytest.fixture
def refused(shown: Callable[..., tuple[int, str, str]]) -> Refused:
    """Run a command that must fail as every command does: exit code 1, nothing on stdout, one line that says what is
    wrong, no traceback, and no word of a bug of ours. Returns the message."""

    def refuse(*arguments: object) -> str:
        code, out, err = shown(*arguments)
        assert (code, out) == (1, ""), (code, out, err)
        lines = err.splitlines()
        assert lines[-1].startswith(PREFIX), err
        assert "Traceback" not in err
        assert "this is a bug" not in err, err
        assert harmless(err), ascii(err)
        return lines[-1].removeprefix(PREFIX)

    return refuse


def harmless(text: str) -> bool:
    """Whether a terminal shows *text* as it stands: no control characters but line ends, no direction overrides."""
    return not any(unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") for c in text if c != "\n")


@pytest.fixture
def is_harmless() -> Callable[[str], bool]:
    return harmless


@pytest.fixture
def rewrite_meta(run: Run) -> Callable[..., None]:
    """Change fields of the metadata of the run's records."""
    import dataclasses

    def change(model: str, **fields: Any) -> None:
        records = run.read(model)
        meta: RecordsMeta = dataclasses.replace(records.meta, **fields)
        run.write(dataclasses.replace(records, meta=meta))

    return change


def write_net(path: Path, seed: int, **metadata: str) -> Path:
    """A linear classifier of 6 numbers into 4 classes as an ONNX file."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    helper, numbers = onnx.helper, onnx.TensorProto.FLOAT
    weights = np.random.default_rng(0).standard_normal((6, 4))
    weights += 0.4 * seed * np.random.default_rng(seed).standard_normal((6, 4))
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "W"], ["y"])],
        "net",
        [helper.make_tensor_value_info("x", numbers, ["N", 6])],
        [helper.make_tensor_value_info("y", numbers, ["N", 4])],
        [onnx.numpy_helper.from_array(weights.astype(np.float32), "W")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    helper.set_model_props(model, metadata)
    onnx.save(model, str(path))
    return path


@pytest.fixture
def net() -> Callable[..., Path]:
    return write_net


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``small.onnx``, ``big.onnx``, ``data.npz``, the run ``run`` and the cascade ``cascade``."""
    from pilotfish.recording import RecordOptions, record

    folder = tmp_path_factory.mktemp("made")
    models = [f"onnx:{write_net(folder / f'{name}.onnx', seed)}" for name, seed in (("small", 1), ("big", 0))]
    x = np.random.default_rng(3).standard_normal((60, 6)).astype(np.float32)
    label = (x @ np.random.default_rng(0).standard_normal((6, 4))).argmax(1)
    np.savez(folder / "data.npz", x=x, label=label, class_names=np.array(list("abcd")))
    options = RecordOptions(timing=False, batch_size=8)
    record(f"arrays:{folder}/data.npz", models, folder / "run", options=options)
    tune(Run(folder / "run"), models, max_drop=0.05, holdout=0).save(folder / "cascade")
    return folder


@pytest.fixture
def runnable(made: Path, tmp_path: Path) -> Path:
    """A copy of that folder's cascade, which runs."""
    shutil.copytree(made / "cascade", tmp_path / "runnable")
    return tmp_path / "runnable"
