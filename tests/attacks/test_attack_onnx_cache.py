"""The cache of exported models lay where others could write, or was a link to such a place: a planted export was run as
somebody's own model.

Taught: the cache is its user's alone (0700, owner, no link), an export is used only with the hash that was noted after
its check, and where the folder cannot be trusted that is said and the model is exported anew.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pilotfish.models import load_model
from pilotfish.models.onnx.onnx_cache import cache_folder, distrust

pytestmark = pytest.mark.skipif(os.name != "posix", reason="modes and owners are POSIX's")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PILOTFISH_CACHE", str(tmp_path / "cache"))
    return cache_folder()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_it_is_made_for_one_user_and_an_earlier_one_is_closed(cache: Path) -> None:
    assert distrust() is None
    assert (mode(cache), mode(cache / "onnx")) == (0o700, 0o700)
    (cache / "onnx").chmod(0o755)
    assert distrust() is None
    assert mode(cache / "onnx") == 0o700


def writable_by_the_group(cache: Path) -> None:
    (cache / "onnx").chmod(0o770)


def writable_by_all(cache: Path) -> None:
    cache.chmod(0o777)


def a_link(cache: Path) -> None:
    cache.rename(cache.with_name("elsewhere"))
    cache.symlink_to(cache.with_name("elsewhere"))


def a_link_inside(cache: Path) -> None:
    (cache / "onnx").rename(cache / "elsewhere")
    (cache / "onnx").symlink_to(cache / "elsewhere")


FAULTS = [
    (writable_by_the_group, "can be written by others (mode 770)"),
    (writable_by_all, "can be written by others (mode 777)"),
    (a_link, "is a link"),
    (a_link_inside, "is a link"),
]


@pytest.mark.parametrize(("fault", "said"), FAULTS)
def test_what_others_could_write_is_not_used(fault: Callable[[Path], None], said: str, cache: Path) -> None:
    distrust()
    fault(cache)
    found = distrust()
    assert found is not None
    assert said in found
    assert "name a folder of your own with PILOTFISH_CACHE" in found


def test_another_users_folder_is_not_used(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    distrust()
    own = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: own + 1)
    assert f"belongs to another user (uid {own})" in str(distrust())


def test_a_planted_export_is_not_run_and_that_is_said(cache: Path, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnxruntime")
    from pilotfish.models import Preprocessing
    from pilotfish.models.names.architectures import build_small
    from pilotfish.models.names.checkpoint import save_checkpoint

    names = []
    for i, seed in enumerate((0, 1)):
        torch.manual_seed(seed)
        arguments = {"num_classes": 3, "width": 2, "side": 2}
        chain = Preprocessing(size=(2, 2), resize=None, interpolation="bilinear", mean=(0.5,), std=(0.5,))
        save_checkpoint(
            build_small("mlp", **arguments), tmp_path / f"{i}.safetensors", "small:mlp", arguments, chain, ()
        )
        names.append(f"checkpoint:{tmp_path}/{i}.safetensors")
    batch = np.ones((2, 1, 2, 2), np.float32)
    own = load_model(names[0])
    expected = own.run(batch)
    (file,) = (cache / "onnx").glob("*.onnx")
    note = file.with_suffix(".json")
    load_model(names[1])
    (planted,) = set((cache / "onnx").glob("*.onnx")) - {file}
    note.write_bytes(planted.with_suffix(".json").read_bytes())  # another model with its own note, whole and checked
    file.write_bytes(planted.read_bytes())
    assert not np.array_equal(load_model(names[0]).run(batch), expected)  # the folder itself is trusted
    (cache / "onnx").chmod(0o777)
    again = load_model(names[0])
    assert np.array_equal(again.run(batch), expected)
    assert "can be written by others" in again.notes[-1]
