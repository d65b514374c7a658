"""``POST /predict``, and the inputs in each kind of body."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pilotfish.errors import UnreadableSample, one_line, reason
from pilotfish.serve.http.body import header_of
from pilotfish.serve.http.endpoint import route
from pilotfish.serve.http.exchange import answered, body_of, hosted_of, most_of, query_of, replied
from pilotfish.serve.http.items import KINDS, MOST_ID, check_count, entries_of, image_of
from pilotfish.serve.http.json_body import bad, json_of, read_aside, shown
from pilotfish.serve.refusal import Refusal
from pilotfish.serve.served import Entry
from pilotfish.serve.takes import Takes

FORMS = "image/*, application/json, or multipart/form-data"
MOST_HEADER = 1000
"""Characters of a Content-Type at most."""
_QUIET = logging.getLogger("pilotfish.form")  # errors in a form go to the client, not to stderr
_QUIET.disabled = True


def read_predict(body: bytes, content_type: str | None, takes: Takes, most: int, id: str | None = None) -> list[Entry]:
    """The inputs of a request. The error of an invalid one among several becomes its item.

    content_type  the header: ``image/*`` for one image file; ``application/json`` for ``{"instances": […]}`` or a
                  single instance; ``multipart/form-data`` for one image per file
    most          inputs that a request may hold
    id            the id of an image sent as the body, from ``?id=``

    Refusal: 415 for any other content type, 400 for a body that does not match it.
    """
    kind = _content_type(content_type)
    if kind == "application/json" or kind.endswith("+json"):
        return _from_json(json_of(body), takes, most)
    if kind == "multipart/form-data":
        return _from_form(body, _boundary(content_type or ""), takes, most)
    if kind.startswith("image/"):
        if not takes.images:
            raise _unsupported(content_type, f'the cascade takes {takes.says}; send JSON with "array" for each input')
        if not body:
            raise bad("the body is empty; expected an image file")
        return [Entry(body) if id is None else Entry(body, _id(id), one_line(id))]
    if kind == "text/plain":
        raise _unsupported(content_type, f"the cascade takes {takes.says}, not texts")
    hint = "state the type of the body, as in curl -H 'Content-Type: image/jpeg' --data-binary @FILE"
    raise _unsupported(content_type, f"expected {FORMS}; {hint}")


def predict_routes() -> list[Route]:
    """``POST /predict``."""
    return [route("/predict", predict, methods=["POST"])]


async def predict(request: Request) -> Response:
    """Answer every input; an invalid one of several has its error in its answer."""
    hosted = hosted_of(request)
    takes, most = hosted.takes, most_of(request)
    body, kind, id = await body_of(request), header_of(request, b"content-type") or None, query_of(request, "id")
    if kind and kind.startswith("image/"):
        entries = read_predict(body, kind, takes, most, id)
    else:
        entries = await read_aside(len(body), lambda: read_predict(body, kind, takes, most, id))
    reply = await replied(request, hosted, entries)
    said = [served.to_json() for served in reply.answers]
    return answered(request, reply, answers=said, model=reply.model, operating_point=reply.point.id)


def _unsupported(content_type: str | None, why: str) -> Refusal:
    found = "no Content-Type" if content_type is None else f"the Content-Type {shown(content_type)}"
    return Refusal(415, f"{found}; {why}", "unsupported")


def _content_type(header: str | None) -> str:
    """The type without its parameters, in lower case."""
    return (header or "").partition(";")[0].strip().lower()


def _boundary(header: str) -> str:
    """The boundary of a form. Refusal if its Content-Type has none."""
    from python_multipart.multipart import parse_options_header

    if len(header) > MOST_HEADER:  # reading it takes quadratic time
        raise _unsupported(header, f"it is longer than {MOST_HEADER} characters")
    found = parse_options_header(header)[1].get(b"boundary")
    if not found:
        raise bad("the Content-Type of the form has no boundary")
    return found.decode("latin-1")


def _from_json(document: Any, takes: Takes, most: int) -> list[Entry]:
    if not isinstance(document, dict):
        raise bad('expected an object: {"instances": […]}, or one {"b64"} or {"array"}')
    if "instances" not in document:
        if not any(kind in document for kind in KINDS):
            found = ", ".join(shown(key) for key in sorted(document)[:5]) or "no keys"
            raise bad(f'expected {{"instances": […]}}, or one {{"b64"}} or {{"array"}}; found {found}')
        return entries_of([document], takes, most)
    if len(document) > 1 and (more := [key for key in document if key not in ("instances", "signature_name")]):
        raise bad(f'the request has the key {shown(more[0])} beside "instances", which is not supported')
    return entries_of(document["instances"], takes, most)


@dataclass
class _Part:
    """One part of a form. file: the file name, None for a field."""

    name: str = ""
    file: str | None = None
    content: bytes = b""


def _from_form(body: bytes, boundary: str, takes: Takes, most: int) -> list[Entry]:
    """Each file and each field ``b64`` is an image; fields ``id`` give their ids, in order."""
    items: list[tuple[Any, str]] = []
    ids: list[str] = []
    for part in _parts(body, boundary, 2 * most):
        if part.file is not None:
            items.append((part.content, part.file))
        elif part.name == "b64":
            items.append((_base64(part.content, takes), ""))
        elif part.name == "id":
            ids.append(_text(part.content))
        else:
            raise bad(
                f"the form has a field {shown(part.name)}; expected files (curl -F file=@FILE), fields "
                '"b64", and "id" for their ids'
            )
    check_count(len(items), most)
    if ids and len(ids) != len(items):
        raise bad(f'the form has {len(ids)} fields "id" for {len(items)} inputs; expected one each, or none')
    return [_entry(item, file, ids[place] if ids else None, place, takes) for place, (item, file) in enumerate(items)]


def _entry(item: Any, file: str, id: str | None, place: int, takes: Takes) -> Entry:
    if isinstance(item, bytes) and not takes.images:
        item = UnreadableSample(f"the cascade takes {takes.says}, not encoded images")
    return Entry(item, id, one_line(file or id or str(place)))


def _base64(content: bytes, takes: Takes) -> Any:
    try:
        return image_of(content.decode("latin-1").strip(), takes)
    except UnreadableSample as error:
        return error


def _id(text: str) -> str:
    """*text*, if it can be an id. Refusal otherwise."""
    if not 0 < len(text) <= MOST_ID:
        raise bad(f'an "id" must be a string of 1 to {MOST_ID} characters')
    return text


def _text(content: bytes) -> str:
    try:
        text = content.decode()
    except UnicodeDecodeError:
        text = ""
    return _id(text)


def _parts(body: bytes, boundary: str, most: int) -> list[_Part]:
    """The parts of a form. Refusal if it is broken or has more than *most*."""
    if not body:
        raise bad("the body is empty; expected a form")
    from python_multipart.exceptions import FormParserError
    from python_multipart.multipart import MultipartParser, parse_options_header

    parts: list[_Part] = []
    header: list[bytes] = [b"", b""]
    ended = False

    def begin() -> None:
        if len(parts) == most:
            raise bad(f"the form has more than {most} parts")
        parts.append(_Part())

    def named() -> None:
        if header[0].lower() == b"content-disposition":
            _, options = parse_options_header(header[1])
            parts[-1].name = options.get(b"name", b"").decode("utf-8", "replace")
            if (file := options.get(b"filename")) is not None:
                parts[-1].file = file.decode("utf-8", "replace")[:MOST_ID]
        header[:] = [b"", b""]

    def field(data: bytes, start: int, end: int) -> None:
        header[0] += data[start:end]

    def value(data: bytes, start: int, end: int) -> None:
        header[1] += data[start:end]

    def content(data: bytes, start: int, end: int) -> None:
        parts[-1].content += data[start:end]

    def end_of_all() -> None:
        nonlocal ended
        ended = True

    said = b"--" + boundary.encode("latin-1")
    if not body[: len(said) + 64].lstrip(b"\r\n").startswith(said):
        raise bad(f"the form does not begin with --{one_line(boundary[:60])}, the boundary in its Content-Type")
    try:
        parser = MultipartParser(
            said[2:],
            {
                "on_part_begin": begin,
                "on_header_field": field,
                "on_header_value": value,
                "on_header_end": named,
                "on_part_data": content,
                "on_end": end_of_all,
            },
        )
        parser.logger = _QUIET
        parser.write(body)
        parser.finalize()
    except (FormParserError, ValueError) as error:
        raise bad(f"the form is broken: {reason(error)}") from None
    if not ended:
        raise bad("the form is cut short: its last boundary is missing")
    return parts
