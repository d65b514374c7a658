"""The command line: in this process, or as a process of its own."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pilotfish
from pilotfish.cli.main import run
from pilotfish.models.names import python_model

PREFIX = "pilotfish: error: "
LIMIT = 900  # seconds until a process is given up: many times what it takes on a busy machine
Runner = Callable[..., subprocess.CompletedProcess[str]]


def environment(**extra: str) -> dict[str, str]:
    """This process's environment for another one: the same pilotfish, one thread per process."""
    found = {**os.environ, "OMP_NUM_THREADS": "1", **extra}
    source = str(Path(pilotfish.__file__).parents[1])
    return {**found, "PYTHONPATH": os.pathsep.join(filter(None, [found.get("PYTHONPATH"), source]))}


def command(folder: Path, *arguments: object, **extra: str) -> subprocess.CompletedProcess[str]:
    """Run ``pilotfish`` in *folder*, in this process, by the entry point that the installed command has: quick, for it
    imports nothing anew. *extra* goes into the environment; modules that tests have written are imported anew."""
    streams = [io.TextIOWrapper(io.BytesIO(), extra.get("PYTHONIOENCODING", "utf-8"), newline="\n") for _ in range(2)]
    argv = ["pilotfish", *map(str, arguments)]
    kept, path = {name: sys.modules.pop(name) for name in _modules_of_tests()}, [*sys.path]
    with (
        contextlib.chdir(folder),
        mock.patch.dict(os.environ, extra),
        mock.patch.object(sys, "argv", argv),
        mock.patch.object(sys, "path", [*_import_path(extra), *path]),
        mock.patch.object(python_model, "_ADDED", set()),
        contextlib.redirect_stdout(streams[0]),
        contextlib.redirect_stderr(streams[1]),
        warnings.catch_warnings(),
    ):
        importlib.invalidate_caches()  # modules that a test has just written
        try:
            run()
            code: object = 0
        except SystemExit as ended:
            code = ended.code or 0
        finally:
            for name in _modules_of_tests():
                del sys.modules[name]
            sys.modules.update(kept)
    for stream in streams:
        stream.flush()
    texts = [stream.buffer.getvalue().decode(stream.encoding) for stream in streams]  # type: ignore[attr-defined]
    return subprocess.CompletedProcess(argv, code if isinstance(code, int) else 1, *texts)


def _modules_of_tests() -> list[str]:
    """Modules that tests have written, which another process would import anew: those in pytest's own folders, for the
    project and its environment may lie among temporary files, too."""
    folder = str(Path(tempfile.gettempdir()) / "pytest-of-")
    return [
        name for name, module in sys.modules.items() if (getattr(module, "__file__", None) or "").startswith(folder)
    ]


def _import_path(extra: dict[str, str]) -> list[str]:
    return [str(Path(entry).absolute()) for entry in extra.get("PYTHONPATH", "").split(os.pathsep) if entry]


def process(folder: Path, *arguments: object, **extra: str) -> subprocess.CompletedProcess[str]:
    """As :func:`command`, in a process of its own: for signals, limits, and what is imported at all."""
    return subprocess.run(
        [sys.executable, "-m", "pilotfish.cli", *map(str, arguments)],
        cwd=folder,
        env=environment(**extra),
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )


def refusal(folder: Path, *arguments: object, code: int = 1, by: Runner = command, **extra: str) -> str:
    """The message of a command that fails as every command must (see :func:`refused`)."""
    return refused(by(folder, *arguments, **extra), code)


def refused(ended: subprocess.CompletedProcess[str], code: int = 1) -> str:
    """The message of what failed with that exit code, nothing on stdout, at the end of stderr one line that says
    ``pilotfish: error: …``, and no traceback."""
    assert (ended.returncode, ended.stdout) == (code, ""), ended
    assert "Traceback" not in ended.stderr
    lines = ended.stderr.splitlines()
    assert sum("error" in line for line in lines) == 1, ended.stderr
    assert lines[-1].startswith(PREFIX), ended.stderr
    return lines[-1].removeprefix(PREFIX)
