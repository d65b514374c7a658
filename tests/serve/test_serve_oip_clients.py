"""Clients of others, unchanged: their answers are those of ``Cascade.predict``."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from pilotfish.runtime import Answer, Cascade
from support.requests import b64, png
from support.server import ALLOWED, Serving, pictures

IMAGES = pictures(8, seed=11)
FILES = [png(image) for image in IMAGES]
OUTPUTS = ("prediction", "confidence", "stage", "name", "flags")


@pytest.fixture(scope="module")
def expected(cascade_folder: Path) -> list[Answer]:
    found = Cascade.load(cascade_folder, allow_python=ALLOWED).predict(list(FILES))
    assert {a.stage for a in found} == {0, 1}
    return found


@pytest.fixture(scope="module")
def triton() -> ModuleType:
    return pytest.importorskip("tritonclient.http", reason="tritonclient[http] is not installed")


def check(found: Any, expected: list[Answer]) -> None:
    """found: a result with ``as_numpy``."""
    outputs = {name: found.as_numpy(name) for name in OUTPUTS}
    assert outputs["prediction"].tolist() == [a.prediction for a in expected]
    assert outputs["stage"].tolist() == [a.stage for a in expected]
    assert [x.decode() if isinstance(x, bytes) else x for x in outputs["name"]] == [a.name for a in expected]
    np.testing.assert_allclose(outputs["confidence"], [a.confidence for a in expected], atol=1e-5)


def files_of(client: Any, rows: slice, as_binary: bool = True) -> list[Any]:
    files = FILES[rows] if as_binary else [b64(file).encode() for file in FILES[rows]]
    given = client.InferInput("input", [len(files)], "BYTES")
    given.set_data_from_numpy(np.array(files, object), binary_data=as_binary)
    return [given]


def pixels_of(client: Any, rows: slice, as_binary: bool = True) -> list[Any]:
    given = client.InferInput("input", list(IMAGES[rows].shape), "UINT8")
    given.set_data_from_numpy(IMAGES[rows], binary_data=as_binary)
    return [given]


def test_triton_asks_about_server_and_model(server: Serving, triton: ModuleType) -> None:
    with triton.InferenceServerClient(f"{server.host}:{server.port}") as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("pair")
        assert client.is_model_ready("pair", "1")
        assert not client.is_model_ready("other")
        assert client.get_server_metadata()["name"] == "pilotfish"
        assert client.get_model_metadata("pair", "1")["inputs"][0]["name"] == "input"
        assert client.get_model_config("pair")["input"][0]["data_type"] == "TYPE_STRING"
        assert client.get_model_repository_index()[0]["state"] == "READY"


@pytest.mark.parametrize("inputs", [files_of, pixels_of])
@pytest.mark.parametrize("as_binary", [True, False])
def test_triton(
    server: Serving, expected: list[Answer], triton: ModuleType, inputs: Callable[..., list[Any]], as_binary: bool
) -> None:
    with triton.InferenceServerClient(f"{server.host}:{server.port}") as client:
        found = client.infer("pair", inputs(triton, slice(None), as_binary), request_id="r 1")
        check(found, expected)
        assert found.get_response()["id"] == "r 1"
        found = client.infer("pair", inputs(triton, slice(0, 1), as_binary), model_version="1", timeout=50_000_000)
        check(found, expected[:1])
        asked = [triton.InferRequestedOutput(name, binary_data=name == "name") for name in OUTPUTS]
        check(client.infer("pair", inputs(triton, slice(1, 4), as_binary), outputs=asked, priority=1), expected[1:4])


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_triton_compresses(server: Serving, expected: list[Answer], triton: ModuleType, coding: str) -> None:
    with triton.InferenceServerClient(f"{server.host}:{server.port}") as client:
        both = {"request_compression_algorithm": coding, "response_compression_algorithm": coding}
        check(client.infer("pair", files_of(triton, slice(None)), **both), expected)


def test_triton_at_once(server: Serving, expected: list[Answer], triton: ModuleType) -> None:
    with triton.InferenceServerClient(f"{server.host}:{server.port}", concurrency=4) as client:
        rows = [slice(i, i + 1) for i in range(len(FILES))]
        asked = [client.async_infer("pair", files_of(triton, one)) for one in rows]
        for one, request in zip(rows, asked, strict=True):
            check(request.get_result(), expected[one])


def test_triton_with_asyncio(server: Serving, expected: list[Answer]) -> None:
    aio = pytest.importorskip("tritonclient.http.aio", reason="tritonclient[http] is not installed")

    async def main() -> None:
        async with aio.InferenceServerClient(f"{server.host}:{server.port}") as client:
            assert await client.is_model_ready("pair")
            rows = [slice(i, i + 2) for i in range(0, len(FILES), 2)]
            found = await asyncio.gather(*(client.infer("pair", files_of(aio, one)) for one in rows))
            for one, result in zip(rows, found, strict=True):
                check(result, expected[one])
            coded = await client.infer("pair", pixels_of(aio, slice(None)), response_compression_algorithm="gzip")
            check(coded, expected)
            many = aio.InferInput("input", [96, *IMAGES.shape[1:]], "UINT8")  # a large answer, which comes compressed
            many.set_data_from_numpy(np.tile(IMAGES, (12, 1, 1, 1)))
            check(await client.infer("pair", [many]), expected * 12)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("change", "status"),
    [({"name": "INPUT0"}, "400"), ({"datatype": "INT8"}, "400"), ({"model": "other"}, "404"), ({"output": "x"}, "400")],
)
def test_triton_reads_errors(server: Serving, triton: ModuleType, change: dict[str, str], status: str) -> None:
    given = triton.InferInput(change.get("name", "input"), [1], change.get("datatype", "BYTES"))
    given.set_data_from_numpy(np.array([1], np.int8) if "datatype" in change else np.array([FILES[0]], object))
    outputs = [triton.InferRequestedOutput(change["output"])] if "output" in change else None
    with (
        triton.InferenceServerClient(f"{server.host}:{server.port}") as client,
        pytest.raises(Exception, match=rf"\[{status}\] .*") as found,
    ):
        client.infer(change.get("model", "pair"), [given], outputs=outputs)
    assert "exception occurred in the client" not in str(found.value)


def commands(heading: str, language: str) -> str:
    """The first block of code below a heading of docs/serving.md."""
    page = (Path(__file__).parents[2] / "docs" / "serving.md").read_text().partition(f"### {heading}\n")[2]
    return page.partition(f"```{language}\n")[2].partition("```")[0]


def test_the_page_on_it_can_be_followed(
    server: Serving, triton: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cat.jpg").write_bytes(FILES[0])
    (tmp_path / "dog.jpg").write_bytes(FILES[1])
    script = commands("Open Inference Protocol", "python").replace("127.0.0.1:8000", server.url.removeprefix("http://"))
    exec(script.replace('"cascade"', '"pair"'), {})
    assert capsys.readouterr().out.startswith("[")
    if shutil.which("curl") is None or shutil.which("base64") is None:
        pytest.skip("curl or base64 is not installed")
    lines = commands("POST /predict", "").replace("http://127.0.0.1:8000", server.url)
    assert lines.count("curl") == 3
    said = subprocess.run(["sh", "-e", "-c", lines], capture_output=True, text=True, timeout=60)
    assert said.stdout.count('"prediction":') == 4, said
    assert said.stdout.count('"error":null') == 4
    assert '"id":"7"' in said.stdout


@pytest.mark.parametrize("as_binary", [True, False])
def test_kserve(server: Serving, expected: list[Answer], as_binary: bool) -> None:
    kserve = pytest.importorskip("kserve", reason="kserve is not installed: make test-kserve")

    def asked(outputs: list[Any] | None = None) -> Any:
        files = FILES if as_binary else [b64(file).encode() for file in FILES]
        given = kserve.InferInput("input", [len(files)], "BYTES")
        given.set_data_from_numpy(np.array(files, object), binary_data=as_binary)
        return kserve.InferRequest("pair", [given], request_id="k", request_outputs=outputs)

    async def main() -> None:
        async with kserve.InferenceRESTClient(kserve.inference_client.RESTConfig(protocol="v2")) as client:
            assert await client.is_server_live(server.url)
            assert await client.is_server_ready(server.url)
            assert await client.is_model_ready(server.url, "pair")
            assert not await client.is_model_ready(server.url, "other")
            found = await client.infer(server.url, asked(), model_name="pair")
            assert (found.id, found.model_name) == ("k", "pair")
            outputs = {one.name: one.as_numpy() for one in found.outputs}
            assert outputs["prediction"].tolist() == [a.prediction for a in expected]
            assert outputs["stage"].tolist() == [a.stage for a in expected]
            np.testing.assert_allclose(outputs["confidence"], [a.confidence for a in expected], atol=1e-5)
            wanted = [kserve.protocol.infer_type.RequestedOutput(name, {"binary_data": True}) for name in OUTPUTS]
            found = await client.infer(server.url, asked(wanted), model_name="pair")
            assert [one.name for one in found.outputs] == list(OUTPUTS)
            with pytest.raises(Exception, match="there is no model"):
                await client.infer(server.url, asked(), model_name="other")
        async with kserve.InferenceRESTClient(kserve.inference_client.RESTConfig(protocol="v1")) as client:
            assert await client.is_model_ready(server.url, "pair")
            instances = {"instances": [{"b64": b64(file)} for file in FILES]}
            found = await client.infer(server.url, instances, model_name="pair")
            assert [one["prediction"] for one in found["predictions"]] == [a.prediction for a in expected]

    asyncio.run(main())
