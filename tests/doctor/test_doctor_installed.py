"""What each extra needs, read from metadata and imported in another Python, also where that breaks it."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from pilotfish.doctor.installed import NEEDS, Package, imported, required, twins

BREAKING = {  # what a package does when it is imported, and what is said of it
    "raises": ("raise ImportError('cannot import name xyz')", "ImportError: cannot import name xyz"),
    "shared": ("raise OSError('libgomp.so.1: cannot open shared object file')", "OSError: libgomp.so.1: cannot open"),
    "ends": ("import sys; sys.exit('no licence')", "SystemExit: no licence"),
    "interrupts": ("raise KeyboardInterrupt", "KeyboardInterrupt: KeyboardInterrupt"),
    "garbled": ("def (", "SyntaxError: invalid syntax"),
    "leaves": ("import os; os._exit(3)", "it ended Python with exit code 3"),
    "leaves-well": ("import os; os._exit(0)", "it ended Python with exit code 0"),
    "crashes": ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "it ended Python with SIGSEGV"),
    "illegal": (
        "import os, signal; os.write(2, b'no such\\ninstruction'); os.kill(os.getpid(), signal.SIGILL)",
        "it ended Python with SIGILL",
    ),
}
WORKING = {
    "fine": "",
    "talks": "print('[1, 2]'); import os; os.write(1, b'{\\n')",
    "parts": "import parts.inner",
    "private": "import sys; assert sys.modules['openvino_telemetry'] is None",
}


def write_package(folder: Path, name: str, code: str = "", version: str = "1.0", module: str | None = None) -> None:
    """A distribution as pip leaves it, with one module."""
    module = module or name.replace("-", "_")
    (folder / module).mkdir(exist_ok=True)
    (folder / module / "__init__.py").write_text(code + "\n")
    (folder / module / "inner.py").write_text("")
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "RECORD").write_text(f"{module}/__init__.py,,\n{module}/inner.py,,\n")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is searched before others, here and in processes that are started."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")])))
    return folder


def write_own(folder: Path, *lines: str) -> None:
    """Metadata of Pilotfish."""
    info = folder / "pilotfish-9.0.dist-info"
    info.mkdir()
    head = "Metadata-Version: 2.4\nName: pilotfish\nVersion: 9.0\nClassifier: Programming Language :: Python :: 3.11\n"
    (info / "METADATA").write_text(head + "".join(f"{line}\n" for line in lines))


def test_extras_are_those_of_the_metadata(site: Path) -> None:
    for name in ("needed", "one", "two"):
        write_package(site, name, version="2.5")
    write_own(
        site,
        "Requires-Dist: needed>=2",
        "Requires-Dist: elsewhere>=2 ; sys_platform == 'plan9'",
        *("Provides-Extra: a", "Requires-Dist: one>=1,<3 ; extra == 'a'"),
        *("Provides-Extra: b", "Requires-Dist: pilotfish[a] ; extra == 'b'", "Requires-Dist: two==2.* ; extra == 'b'"),
        *("Provides-Extra: c", "Requires-Dist: three>=1; extra == 'c'"),
        *("Provides-Extra: all", "Requires-Dist: pilotfish[a,b,c,all]; extra == 'all'"),
        *("Provides-Extra: none",),
    )
    found = required()
    assert {extra: sorted(p.name for p in needed) for extra, needed in found.items()} == {
        "": ["needed"],
        "a": ["one"],
        "b": ["one", "two"],
        "c": ["three"],
        "all": ["one", "three", "two"],
        "none": [],
    }
    assert found["all"][0].extras == ("a", "b", "all")
    assert {p.name: p.version for p in found["all"]} == {"one": "2.5", "two": "2.5", "three": None}
    assert [p.works for p in found["all"]] == [p.version is not None for p in found["all"]]


@pytest.mark.parametrize(
    ("wanted", "version", "fault"),
    [
        (">=2.10", "2.9.1", "its version is not >=2.10"),
        (">=2.10", "2.10.0+cpu", None),
        ("==0.1.0", "0.1.1", "its version is not ==0.1.0"),
        ("<3,>=1", "3.0", "its version is not <3,>=1"),
        (">=1", "2.0rc1", None),
        ("", "0.0.1", None),
        (">=1", "of yesterday", "its version is not >=1"),
    ],
)
def test_versions_that_are_not_accepted(wanted: str, version: str, fault: str | None, site: Path) -> None:
    write_package(site, "thing", version=version)
    write_own(site, "Provides-Extra: x", f"Requires-Dist: thing{wanted}; extra == 'x'")
    [found] = required()["x"]
    assert (found.works, found.version) == (fault is None, version)
    assert (found.fault or "").startswith(fault or "")


@pytest.mark.parametrize(
    ("name", "module"), [("scikit-thing", "skthing"), ("PyThing", "thing_by_another"), ("some.thing-x", "some_thing_x")]
)
def test_the_modules_of_a_package_are_found(name: str, module: str, site: Path) -> None:
    write_package(site, name, module=module)
    write_own(site, "Provides-Extra: x", f"Requires-Dist: {name}; extra == 'x'")
    [found] = required()["x"]
    assert found.modules == (module,)


@pytest.mark.parametrize(("asked", "there"), [("onnxruntime", "onnxruntime-gpu"), ("pillow", "pillow-simd")])
def test_another_build_of_a_package_does_as_well(
    asked: str, there: str, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.metadata

    versions = {there: "9.9"}

    def version(name: str) -> str:
        if name not in versions:
            raise importlib.metadata.PackageNotFoundError(name)
        return versions[name]

    write_package(site, there, version="9.9")
    write_own(site, "Provides-Extra: x", f"Requires-Dist: {asked}>=1; extra == 'x'")
    monkeypatch.setattr(importlib.metadata, "version", version)
    [found] = required()["x"]
    assert (found.name, found.version, found.works) == (there, "9.9", True)
    assert twins() == []
    versions[asked] = "9.8"
    [said] = twins()
    assert said.startswith(f"{asked} and {there} overwrite each other's files")
    assert f"pip uninstall {asked} {there}" in said


def test_packages_that_break_whoever_imports_them(site: Path) -> None:
    for name, code in (WORKING | {name: code for name, (code, _) in BREAKING.items()}).items():
        write_package(site, name, code)
    write_own(site, "Provides-Extra: x", *(f"Requires-Dist: {name}; extra == 'x'" for name in [*BREAKING, *WORKING]))
    told: list[tuple[str, int, int]] = []
    found, facts, late = imported(
        required()["x"], time.monotonic() + 300, lambda what, done, total: told.append((what, done, total))
    )
    assert late == []
    assert {p.name: p.fault for p in found if p.works} == dict.fromkeys(WORKING)
    assert facts == {name: {} for name in WORKING}
    for p in found:
        if p.name in BREAKING:
            assert (p.fault or "").startswith(BREAKING[p.name][1]), p
            assert "\n" not in (p.fault or "")
    assert told[-1] == ("importing packages", len(found), len(found))


@pytest.mark.parametrize(
    ("code", "culprit"),
    [
        ("raise OSError('libfoo.so')", "OSError: libfoo.so"),
        ("import nothing_of_the_kind", "ModuleNotFoundError: No module named 'nothing_of_the_kind'"),
        ("def f():\n    raise RuntimeError('2.0 is needed')\nf()", "RuntimeError: 2.0 is needed"),
    ],
)
def test_the_package_at_fault_is_named_and_those_that_need_it(code: str, culprit: str, site: Path) -> None:
    for name, what in (("above", "import below"), ("below", code), ("higher", "import above"), ("beside", "")):
        write_package(site, name, what)
    packages = [Package(name, name, ("x",), "1.0", (name,)) for name in ("above", "below", "higher", "beside")]
    found, _, _ = imported(packages, time.monotonic() + 300, lambda *_: None)
    assert [p.fault for p in found] == [f"{NEEDS} below", culprit, f"{NEEDS} below", None]


def test_a_crash_is_put_down_to_the_package_that_is_needed(site: Path) -> None:
    for name, what in (("above", "import below"), ("below", BREAKING["crashes"][0]), ("alone", BREAKING["leaves"][0])):
        write_package(site, name, what)
    with (site / "above-1.0.dist-info" / "METADATA").open("a") as metadata:
        metadata.write("Requires-Dist: below>=1\nRequires-Dist: alone ; extra == 'x'\n")
    packages = [Package(name, name, ("x",), "1.0", (name,)) for name in ("above", "alone", "below")]
    found, _, _ = imported(packages, time.monotonic() + 300, lambda *_: None)
    assert [p.fault for p in found] == [f"{NEEDS} below", BREAKING["leaves"][1], BREAKING["crashes"][1]]


def test_an_import_that_never_ends_costs_the_time_and_no_more(site: Path) -> None:
    for name, code in (("fine", ""), ("hangs", "while True: pass"), ("after", "")):
        write_package(site, name, code)
    packages = [Package(name, name, ("x",), "1.0", (name,)) for name in ("fine", "hangs", "after")]
    found, _, late = imported(packages, time.monotonic() + 1.5, lambda *_: None)
    assert [p.works for p in found] == [True] * 3
    assert late[-2:] == ["hangs", "after"]


def test_packages_in_the_working_folder_are_not_imported(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rich.py").write_text("open('ran', 'w')")
    [found], _, _ = imported(
        [Package("rich", "rich", ("",), "1.0", ("rich",))], time.monotonic() + 300, lambda *_: None
    )
    assert found.works
    assert not (tmp_path / "ran").exists()
