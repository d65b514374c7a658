"""A file was hashed, found to be the one of the records, and read a second time to be run: who replaced it in between
had other weights run under the records' hash. A cascade's model was replaced beside it, its size and date kept.

Taught: what is run is made of the bytes that were hashed.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pilotfish.errors import ModelError
from pilotfish.models import load_model


def replaced(file: Path, other: Path) -> None:
    """The bytes of *other* in *file*, with its old date."""
    before = file.stat()
    file.write_bytes(other.read_bytes())
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_an_onnx_file_replaced_between_hash_and_run(net: Any, tmp_path: Path) -> None:
    file, other = net(tmp_path / "net.onnx", 1), net(tmp_path / "other.onnx", 2)
    model = load_model(f"onnx:{file}")
    batch = np.random.default_rng(0).standard_normal((3, 6)).astype(np.float32)
    before = model.run(batch)
    again = model.backend.with_threads(model.backend.threads + 1)  # type: ignore[attr-defined]  # opened when it is run
    replaced(file, other)
    np.testing.assert_array_equal(model.run(batch), before)
    with pytest.raises(ModelError, match="was changed while it was read"):
        again.step(batch)
    with pytest.raises(ModelError, match="was changed while it was read"):
        model.weights(tmp_path / "copy.onnx")
    assert not (tmp_path / "copy.onnx").exists()


def test_a_checkpoint_replaced_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tensors and what is said of them come from one read: a second one would meet the other file."""
    pytest.importorskip("torch")
    numpy_file = pytest.importorskip("safetensors.numpy")
    from pilotfish.models.names.weights_file import read_weights

    file, read, seen = tmp_path / "net.safetensors", Path.read_bytes, []

    def once(path: Path) -> bytes:
        content = read(path)
        if path == file:
            seen.append(path)
            numpy_file.save_file({"w": np.ones(2, np.float32)}, file, metadata={"who": "other"})
        return content

    numpy_file.save_file({"w": np.zeros(2, np.float32)}, file, metadata={"who": "own"})
    monkeypatch.setattr(Path, "read_bytes", once)
    found = read_weights(file)
    assert len(seen) == 1
    assert (found.sets[""]["w"].tolist(), found.beside["who"]) == ([0.0, 0.0], "own")


@pytest.mark.parametrize("embedded", [False, True])
def test_a_cascades_model_is_replaced(
    embedded: bool, runnable: Path, made: Path, net: Any, tmp_path: Path, refused: Any
) -> None:
    document = json.loads((runnable / "cascade.json").read_text())
    mine = runnable / "weights" / "0.onnx" if embedded else tmp_path / "small.onnx"
    mine.parent.mkdir(exist_ok=True)
    change = {"weights_file": "weights/0.onnx"} if embedded else {"spec": f"onnx:{mine}"}
    document["stages"][0].update(change, files=[])
    (runnable / "cascade.json").write_text(json.dumps(document))
    net(mine, 3)
    assert "the thresholds were made for weights" in refused("predict", runnable, made / "data.npz")
