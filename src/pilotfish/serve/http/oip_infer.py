"""Requests and responses of inference by the Open Inference Protocol."""

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
"""Outputs and their datatypes; a prediction that is not a class is BYTES, one JSON document each."""


@dataclass(frozen=True)
class Output:
    """A requested output. binary: sent after the JSON; best: formatted as ``confidence:class:name``."""

    name: str
    binary: bool
    best: bool = False


@dataclass(frozen=True)
class Asked:
    """A parsed request. timeout: seconds."""

    items: list[Any]
    id: str | None
    outputs: tuple[Output, ...]
    timeout: float | None = None

    def entries(self) -> list[Entry]:
        """The inputs. A single one has the request's id; several have it with their number, ``ID/0``. Refusal that
        names the first unreadable input."""
        for place, item in enumerate(self.items):
            if isinstance(item, Exception):
                raise bad(f"{INPUT}[{place}]: {item}")
        if len(self.items) == 1 or self.id is None:
            return [Entry(item, self.id, str(place)) for place, item in enumerate(self.items)]
        return [Entry(item, f"{self.id}/{place}", str(place)) for place, item in enumerate(self.items)]


def read_infer(body: bytes, header_length: str | None, takes: Takes, most: int, classes: bool = True) -> Asked:
    """Parse a request for inference. Refusal, 400, if it is invalid.

    header_length  the header: bytes of JSON before the tensors. None: the whole body is JSON. 0: the body is a single
                   input
    most           inputs that a request may hold
    classes        whether answers are classes
    """
    length = json_length(header_length, len(body))
    if length == 0 and body and header_length is not None:
        return Asked(raw_input(body, takes), None, _all(False))
    request = json_of(body[:length])
    if not isinstance(request, dict):
        raise bad('a request must be a JSON object with "inputs"')
    inputs = request.get("inputs")
    if not isinstance(inputs, list) or len(inputs) != 1:
        found = f"{len(inputs)}" if isinstance(inputs, list) else "none"
        raise bad(f'"inputs" must hold one tensor, {INPUT!r}; found {found}')
    items, tail = read_input(inputs[0], memoryview(body)[length:], takes, most)
    if len(tail):
        raise bad(f"{len(tail):,} bytes follow the last tensor, beyond its binary_data_size")
    parameters = request.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise bad("the request's parameters must be an object")
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
        raise bad(f'"id" must be a string of at most {MOST_ID} characters')
    return value


def _timeout(parameters: Mapping[str, Any]) -> float | None:
    value = parameters.get("timeout", 0)
    if type(value) is not int or value < 0:
        raise bad(f"timeout must be a whole number of microseconds; found {shown(value)}")
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
        raise bad('"outputs" must be a list of objects with a "name"')
    names = [one.get("name") for one in asked]
    for name in names:
        if not isinstance(name, str) or name not in OUTPUTS:
            raise bad(f"there is no output {shown(name)}; {nearest(str(name)[:60], OUTPUTS)}")
    if len(set(names)) != len(names):
        raise bad("an output is requested twice")
    return tuple(_output(one, binary, classes) for one in asked)


def _output(asked: Mapping[str, Any], binary: bool, classes: bool) -> Output:
    name, parameters = str(asked["name"]), asked.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise bad(f"the parameters of output {name} must be an object")
    if "shared_memory_region" in parameters:
        raise bad(f"output {name} is requested in shared memory, which this server does not support")
    best = parameters.get("classification")
    if best is not None:
        if type(best) is not int or best < 1:
            raise bad(f"classification must be a number of classes, 1 or more; found {shown(best)}")
        if name not in ("prediction", "confidence") or not classes:
            raise bad(
                f"output {name} is not a class; classification is for the prediction of a cascade that answers classes"
            )
    return Output(name, _flag(parameters, "binary_data", binary), best is not None)


def _flag(parameters: Mapping[str, Any], name: str, default: bool) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise bad(f"{name} must be true or false; found {shown(value)}")
    return value


def write_infer(asked: Asked, reply: Reply, classes: bool) -> tuple[bytes, dict[str, str]]:
    """(body, headers) of the response. Every input has an answer."""
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
