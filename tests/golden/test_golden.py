"""Planning prints what it printed before its core was rebuilt, to the last digits."""

from __future__ import annotations

from pathlib import Path

import pytest

from golden.documents import CIFAR, cifar_run, differences, kept, made


def test_the_documents_of_the_example_are_what_they_were() -> None:
    found, then = made("lite", fitted=False), kept("lite")
    assert len(found) > 30
    assert not [*differences(found, {name: then[name] for name in found})]


@pytest.mark.skipif(not CIFAR.is_file(), reason="needs the public CIFAR-10 predictions beside the project")
def test_the_documents_of_cifar_are_what_they_were(tmp_path: Path) -> None:
    cifar_run(tmp_path)
    found, then = made("cifar", tmp_path, fitted=False), kept("cifar")
    assert len(found) > 15
    assert not [*differences(found, {name: then[name] for name in found})]
