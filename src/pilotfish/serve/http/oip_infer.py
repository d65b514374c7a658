"""Inference by the Open Inference Protocol: what a request asks, and its answer."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pilotfish.errors import nearest
from pilotfish.serve.http.items import MOST_ID
from pilotfish.serve.http.json_body import bad, json_of, shown, to_json
from pilotfish.serve.http.oip_tensors import INPUT, raw_input, read_input, tensor
from pilotfish.serve.served import Entry, Reply, Served
from pilotfish.serve.takes import Takes

OUTPUTS = {"prediction": "INT64", "confidence": "FP32", "stage": "INT64", "name": "BYTES", "flags": "BYTES"}
"""Their datatypes; a prediction that is no class is BYTES, a JSON document each."""


@dataclass(frozen=True)
class Output:
    """An output that is asked for. binary: behind the JSON; best: whether as ``confidence:class:name``."""

    name: str
    binary: bool
    best: bool = False


@dataclass(frozen=True)
class Asked:
    """What a request asks. timeout: seconds."""

    items: list[Any]
    id: str | None
    outputs: tuple[Output, ...]
    timeout: float | None = None

    def entries(self) -> list[Entry]:
        """Its inputs. One alone has the request's id, several have it with their number, ``ID/0``. Refusal that names
        the first that cannot be read."""
        for place, item in enumerate(self.items):
            if isinstance(item, Exception):
                raise bad(f"{INPUT}[{place}]: {item}")
        if len(self.items) == 1 or self.id is None:
            return [Entry(item, self.id, str(place)) for place, item in enumerate(self.items)]
        return [Entry(item, f"{self.id}/{place}", str(place)) for place, item in enumerate(self.items)]


def read_infer(body: bytes, header_length: str | None, takes: Takes, most: int, classes: bool = True) -> Asked:
    """A request for inference. Refusal, 400, says what is wrong with it.

    header_length  bytes of JSON before the tensors, as the header says; None: all of the body. 0: the body is the one
                   input itself
    most           inputs in a request
    classes        whether an answer is a class
    """
    length = json_length(header_length, len(body))
    if length == 0 and body and header_length is not None:
        return Asked(raw_input(body, takes), None, _all(False))
    request = json_of(body[:length])
    if not isinstance(request, dict):
        raise bad('the request is a JSON object with "inputs"')
    inputs = request.get("inputs")
    if not isinstance(inputs, list) or len(inputs) != 1:
        found = f"{len(inputs)} of them" if isinstance(inputs, list) else "none"
        raise bad(f'"inputs" holds one tensor, {INPUT!r}; found {found}')
    items, tail = read_input(inputs[0], memoryview(body)[length:], takes, most)
    if len(tail):
        raise bad(f"{len(tail):,} bytes follow the last tensor; their binary_data_size does not say so")
    parameters = request.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise bad("the request's parameters are an object")
    return Asked(items, _id(request.get("id")), _outputs(request, parameters, classes), _timeout(parameters))


def json_length(header: str | None, size: int) -> int:
    if header is None:
        return size
    text = header.strip()
    if not (text.isascii() and text.isdigit()) or len(text) > 15 or int(text) > size:
        raise bad(f"Inference-Header-Content-Length is {shown(text)}; expected 0 to {size:,}, the body's length")
    return int(text)


def _id(value: Any) -> str | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str) or len(value) > MOST_ID:
        raise bad(f'"id" is a text of at most {MOST_ID} characters')
    return value


def _timeout(parameters: Mapping[str, Any]) -> float | None:
    value = parameters.get("timeout", 0)
    if type(value) is not int or value < 0:
        raise bad(f"timeout is a whole number of microseconds; found {shown(value)}")
    return value / 1e6 if value else None


@functools.cache
def _all(binary: bool) -> tuple[Output, ...]:
    return tuple(Output(name, binary) for name in OUTPUTS)


def _outputs(request: Mapping[str, Any], parameters: Mapping[str, Any], classes: bool) -> tuple[Output, ...]:
    binary = _flag(parameters, "binary_data_output", False)
    asked = request.get("outputs")
    if asked is None or asked == []:
        return _all(binary)
    if not isinstance(asked, list) or not all(isinstance(one, dict) for one in asked):
        raise bad('"outputs" is a list of objects with a "name"')
    names = [one.get("name") for one in asked]
    for name in names:
        if not isinstance(name, str) or name not in OUTPUTS:
            raise bad(f"there is no output {shown(name)}; {nearest(str(name)[:60], OUTPUTS)}")
    if len(set(names)) != len(names):
        raise bad("an output is asked for twice")
    return tuple(_output(one, binary, classes) for one in asked)


def _output(asked: Mapping[str, Any], binary: bool, classes: bool) -> Output:
    name, parameters = str(asked["name"]), asked.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise bad(f"the parameters of output {name} are an object")
    if "shared_memory_region" in parameters:
        raise bad(f"output {name} is wanted in shared memory, which this server does not write")
    best = parameters.get("classification")
    if best is not None:
        if type(best) is not int or best < 1:
            raise bad(f"classification is how many classes, 1 or more; found {shown(best)}")
        if name not in ("prediction", "confidence") or not classes:
            raise bad(
                f"output {name} is no class; classification goes with prediction of a cascade that answers classes"
            )
    return Output(name, _flag(parameters, "binary_data", binary), best is not None)


def _flag(parameters: Mapping[str, Any], name: str, default: bool) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise bad(f"{name} is true or false; found {shown(value)}")
    return value


def write_infer(asked: Asked, reply: Reply, classes: bool) -> tuple[bytes, dict[str, str]]:
    """(body, headers) of the answer. Every input has one."""
    described: list[dict[str, Any]] = []
    behind: list[bytes] = []
    for output in asked.outputs:
        datatype, values = _column(output, reply.answers, classes)
        one, content = tensor(output.name, datatype, values, output.binary)
        described.append(one)
        behind.append(content)
    said: dict[str, Any] = {"model_name": reply.model, "model_version": reply.version}
    if asked.id is not None:
        said["id"] = asked.id
    said["parameters"] = {"operating_point": reply.point.id, "model": reply.model}
    said["outputs"] = described
    text = to_json(said)
    if not any(output.binary for output in asked.outputs):
        return text, {"Content-Type": "application/json"}
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(text))}
    return b"".join([text, *behind]), headers


def _column(output: Output, answers: Sequence[Served], classes: bool) -> tuple[str, list[Any]]:
    """(datatype, values) of one output."""
    found = [served.answer for served in answers]
    if output.best:
        return "BYTES", [
            f"{-1.0 if one.confidence is None else one.confidence:.6f}:{one.prediction}"
            + (f":{one.name}" if one.name else "")
            for one in found
        ]
    if output.name == "prediction":
        if classes:
            return "INT64", [one.prediction for one in found]
        return "BYTES", [to_json(one.prediction).decode() for one in found]
    if output.name == "flags":
        return "BYTES", [",".join(served.flags) for served in answers]
    if output.name == "name":
        return "BYTES", [one.name or "" for one in found]
    return OUTPUTS[output.name], [getattr(one, output.name) for one in found]
