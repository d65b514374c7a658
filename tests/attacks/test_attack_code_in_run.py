"""A run's metadata said ``"spec": "python:evil:f"``. ``tune`` copied it into the user's own cascade, and ``--embed``
imported it at once.

Taught: records are read from files, so their specs are no more trusted than a cascade's. In ``build``, only the models
that were typed may run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pilotfish.errors import ArtefactError
from pilotfish.plan import tune
from pilotfish.records import Run
from pilotfish.runtime import Cascade, save_with_weights

CODE = ("EVIL:f", "builtins:exec", "pickle:loads")


@pytest.mark.parametrize("code", CODE)
@pytest.mark.parametrize("model", ["saver", "base"])
def test_embedding_runs_no_code_of_the_run(
    model: str,
    code: str,
    run: Run,
    rewrite_meta: Any,
    evil: str,
    marker: Path,
    refused: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    code = code.replace("EVIL", evil)
    rewrite_meta(model, spec=f"python:{code}")
    monkeypatch.chdir(tmp_path)
    command = ("tune", "run", "--stages", "saver,base", "--max-drop", "5%", "--out", "c")
    assert f"--allow-python {code}" in refused(*command, "--embed")
    assert not (tmp_path / "c").exists()
    with pytest.raises(ArtefactError, match="which runs code named by a file and not by you"):
        save_with_weights(tune(run, ["saver", "base"], max_drop=0.05).artefact, tmp_path / "c")
    assert not marker.exists()


def test_a_cascade_tuned_from_such_a_run_still_asks(
    run: Run, rewrite_meta: Any, evil: str, marker: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rewrite_meta("saver", spec=f"python:{evil}:f")
    monkeypatch.chdir(tmp_path)
    folder = tune(run, ["saver", "base"], max_drop=0.05).save(tmp_path / "c")
    with pytest.raises(ArtefactError, match=f"--allow-python {evil}:f"):
        Cascade.load(folder)
    assert not marker.exists()


def test_inspect_shows_what_a_run_would_load(run: Run, rewrite_meta: Any, shown: Any, evil: str, marker: Path) -> None:
    rewrite_meta("saver", spec=f"python:{evil}:f")
    rewrite_meta("base", spec="timm:resnet18")
    code, out, err = shown("inspect", run.path)
    assert code == 0
    assert f"python:{evil}:f" in out
    assert "timm:resnet18" in out
    assert f"--allow-python {evil}:f" in err
    assert not marker.exists()
