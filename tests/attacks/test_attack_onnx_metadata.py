"""What an ONNX file says beside its graph was of another kind: a number for a list, an object for a text, sizes of
30,000. One ended in a traceback, others named no file.

Taught: metadata are held to their form, and the message names the file and the key.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

CHAIN = {"size": [8, 8], "resize": None, "interpolation": "bilinear", "mean": [0.5], "std": [0.5]}


@pytest.mark.parametrize("junk", [7, True, 1.5, {"a": 1}, "crop", None, [7, None, "crop"]], ids=str)
def test_what_was_assumed_is_a_list(junk: Any, net: Any, made: Path, tmp_path: Path, shown: Any) -> None:
    own = {"pilotfish.preprocessing": json.dumps({**CHAIN, "layout": "tensor"})}
    file = net(tmp_path / "net.onnx", 1, **own, **{"pilotfish.assumed": json.dumps({"fields": junk})})
    _, _, err = shown("record", "--data", made / "data.npz", "--model", f"onnx:{file}", "--run", tmp_path / "r")
    assert "this is a bug" not in err


@pytest.mark.parametrize(
    "change",
    [{"size": [30000, 30000]}, {"mean": {}}, {"std": [0]}, {"mean": [1e300], "std": [1e-300]}, {"resize": "x"}],
    ids=str,
)
def test_the_file_and_the_key_are_named(
    change: dict[str, Any], net: Any, made: Path, tmp_path: Path, refused: Any
) -> None:
    own = {"pilotfish.preprocessing": json.dumps({**CHAIN, **change})}
    file = net(tmp_path / "net.onnx", 1, **own)
    said = refused("record", "--data", made / "data.npz", "--model", f"onnx:{file}", "--run", tmp_path / "r")
    assert "net.onnx: its metadata pilotfish.preprocessing" in said
