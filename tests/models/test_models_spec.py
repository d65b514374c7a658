"""Model names: every form, and errors that say what was meant."""

from __future__ import annotations

import importlib.util
import sys

import pytest

from pilotfish.errors import MissingExtraError, ModelError, UsageError
from pilotfish.models import FORMS, ModelSpec, load_model, parse_spec
from pilotfish.models.names.spec import KINDS, allow_options, parse_count, parse_numbers

FOUND = [
    ("timm:resnet18", ("timm", "resnet18", None, {})),
    ("timm:resnet18.a1_in1k@288", ("timm", "resnet18.a1_in1k", 288, {})),
    (" timm:resnet18 ", ("timm", "resnet18", None, {})),
    ("torchvision:vit_b_16@1?weights=random", ("torchvision", "vit_b_16", 1, {"weights": "random"})),
    ("lite:efficientnet_lite0@4096", ("lite", "efficientnet_lite0", 4096, {})),
    ("onnx:/a b/net@2.onnx", ("onnx", "/a b/net@2.onnx", None, {})),
    ("onnx:net.onnx@64?mean=0.5&std=0.1:0.2:0.3", ("onnx", "net.onnx", 64, {"mean": "0.5", "std": "0.1:0.2:0.3"})),
    ("checkpoint:a/b.safetensors", ("checkpoint", "a/b.safetensors", None, {})),
    ("python:my.module:build", ("python", "my.module:build", None, {})),
    ("python:m:f@2", ("python", "m:f@2", None, {})),
    ("timm:x?weights=C:/w?v=1.pth", ("timm", "x", None, {"weights": "C:/w?v=1.pth"})),
]


@pytest.mark.parametrize(("text", "found"), FOUND)
def test_every_form_is_understood(text: str, found: tuple) -> None:
    spec = parse_spec(text)
    assert spec == ModelSpec(text.strip(), *found)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_a_form_that_is_shown_and_loaders_that_exist(kind: str) -> None:
    form = KINDS[kind]
    assert (form.pattern, form.meaning) in FORMS
    if importlib.util.find_spec("torch") is not None:
        for reference in filter(None, (form.loader, form.lister)):
            module, _, name = reference.partition(":")
            assert callable(getattr(importlib.import_module(f"pilotfish.models.{module}"), name))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("resnet18", "forms: timm:NAME"),
        ("", "forms: timm:NAME"),
        ("tim:resnet18", "nearest names: timm"),
        ("torchvison:resnet18", "nearest names: torchvision"),
        ("timm:", "nothing follows timm:"),
        ("timm:?weights=random", "nothing follows timm:"),
        ("timm:resnet18@0", "0 pixels is out of range (1 to 4096)"),
        ("timm:resnet18@4097", "4097 pixels is out of range"),
        ("timm:resnet18@99999999999999999999", "out of range"),
        ("timm:resnet18?weights", "found 'weights'"),
        ("timm:resnet18?=random", "found '=random'"),
        ("timm:resnet18?", "found ''"),
        ("timm:resnet18?weights=a&weights=b", "found 'weights=b'"),
    ],
)
def test_an_unreadable_name_says_why(text: str, said: str) -> None:
    with pytest.raises(ModelError) as caught:
        parse_spec(text)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_options_come_with_the_known_ones() -> None:
    with pytest.raises(ModelError, match="unknown option 'wieghts'; nearest names: weights"):
        allow_options(parse_spec("timm:resnet18?wieghts=random"), "weights", "num_classes")


@pytest.mark.parametrize("text", ["abc", "", "1", "-5", "2.5", "²"])
def test_counts_are_whole_numbers(text: str) -> None:
    with pytest.raises(ModelError, match="num_classes must be a whole number of at least 2"):
        parse_count(parse_spec(f"timm:resnet18?num_classes={text}"), "num_classes", least=2)


def test_numbers_are_one_for_all_channels_or_one_each() -> None:
    spec = parse_spec("onnx:a.onnx?mean=0.5&std=0.1:0.2:0.3&crop=1:2")
    assert parse_numbers(spec, "mean", 3) == (0.5, 0.5, 0.5)
    assert parse_numbers(spec, "std", 3) == (0.1, 0.2, 0.3)
    assert parse_numbers(spec, "absent", 3) is None
    with pytest.raises(UsageError, match="crop takes 1 or 3 numbers"):
        parse_numbers(spec, "crop", 3)
    with pytest.raises(UsageError, match="mean takes 1 or 3 numbers separated by ':', found 'a'"):
        parse_numbers(parse_spec("onnx:a.onnx?mean=a"), "mean", 3)


@pytest.mark.parametrize(
    ("name", "package", "extra"),
    [
        ("timm:resnet18", "timm", "torch"),
        ("lite:efficientnet_lite0", "timm", "torch"),
        ("torchvision:resnet18", "torchvision", "torch"),
    ],
)
def test_a_missing_library_names_the_extra_that_brings_it(
    name: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError) as caught:
        load_model(name)
    assert f"needs the package {package}" in str(caught.value)
    assert f"pip install 'pilotfish[{extra}]'" in str(caught.value)
