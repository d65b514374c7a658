"""Commands on a machine that lacks some packages."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from support.process import environment

MANY = """
import contextlib, io, json, sys

absent, commands = json.load(sys.stdin)

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in absent:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
from pilotfish.cli.main import run

ended = []
for arguments in commands:
    out, err = io.StringIO(), io.StringIO()
    sys.argv = ["pilotfish", *arguments]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            run()
        except SystemExit as end:
            ended.append((end.code or 0, out.getvalue(), err.getvalue()))
print(json.dumps(ended))
"""
Arguments = Sequence[object]


def without(absent: Sequence[str], folder: Path, *commands: Arguments) -> list[subprocess.CompletedProcess[str]]:
    """Run the commands in *folder*, in one Python in which the packages *absent* cannot be imported."""
    asked = json.dumps([list(absent), [[str(a) for a in arguments] for arguments in commands]])
    done = subprocess.run(
        [sys.executable, "-P", "-c", MANY], cwd=folder, env=environment(), input=asked, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return [subprocess.CompletedProcess([], *ended) for ended in json.loads(done.stdout)]
