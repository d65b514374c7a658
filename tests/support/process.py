"""The command line as a real process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pilotfish

PREFIX = "pilotfish: error: "


def environment(**extra: str) -> dict[str, str]:
    """This process's environment for another one: the same pilotfish, one thread per process."""
    found = {**os.environ, "OMP_NUM_THREADS": "1", **extra}
    source = str(Path(pilotfish.__file__).parents[1])
    return {**found, "PYTHONPATH": os.pathsep.join(filter(None, [found.get("PYTHONPATH"), source]))}


def command(folder: Path, *arguments: object, **extra: str) -> subprocess.CompletedProcess[str]:
    """Run ``pilotfish`` in *folder*; *extra* goes into its environment."""
    return subprocess.run(
        [sys.executable, "-m", "pilotfish.cli", *map(str, arguments)],
        cwd=folder,
        env=environment(**extra),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def refusal(folder: Path, *arguments: object, code: int = 1, **extra: str) -> str:
    """The message of a command that fails as every command must: the exit code, nothing on stdout, at the end of
    stderr one line that says ``pilotfish: error: …``, and no traceback."""
    ended = command(folder, *arguments, **extra)
    assert (ended.returncode, ended.stdout) == (code, ""), ended
    assert "Traceback" not in ended.stderr
    lines = ended.stderr.splitlines()
    assert sum("error" in line for line in lines) == 1, ended.stderr
    assert lines[-1].startswith(PREFIX), ended.stderr
    return lines[-1].removeprefix(PREFIX)
