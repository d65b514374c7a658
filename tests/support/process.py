"""The command line: in this process, or as a process of its own."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pilotfish
from pilotfish.cli.main import run

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


def in_process(*arguments: object, folder: Path | None = None, **extra: str) -> subprocess.CompletedProcess[str]:
    """Run ``pilotfish`` here, by the entry point that the installed command has: quick, for it imports nothing anew."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    argv = ["pilotfish", *map(str, arguments)]
    code = 0
    with (
        contextlib.chdir(folder or Path.cwd()),
        mock.patch.dict(os.environ, extra),
        mock.patch.object(sys, "argv", argv),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            run()
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 1
    texts = [stream.buffer.getvalue().decode() for stream in (out, err)]  # type: ignore[attr-defined]
    return subprocess.CompletedProcess(argv, code, *texts)


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
