"""The metadata of a records file as JSON: written, and checked when it is read."""

from __future__ import annotations

import json

from pilotfish.documents import as_document, read_as
from pilotfish.errors import RecordsError
from pilotfish.files import parse_json
from pilotfish.records.records import SCHEMA_VERSION, RecordsMeta

MAX_META_BYTES = 64 * 2**20


def encode_meta(meta: RecordsMeta) -> bytes:
    """Metadata as UTF-8 JSON, with the schema's version."""
    document = {"schema_version": SCHEMA_VERSION, **as_document(meta)}
    return json.dumps(document, ensure_ascii=False).encode()


def decode_meta(text: bytes, fallback: dict[str, str], where: str) -> RecordsMeta:
    """Metadata from JSON. Unknown keys are left alone, so later minor versions stay readable."""
    if len(text) > MAX_META_BYTES:
        raise RecordsError(f"{where}: {len(text):,} bytes of metadata, more than the {MAX_META_BYTES:,} allowed")
    where = f"{where}: damaged metadata"
    try:
        document = parse_json(text)
    except ValueError as error:
        raise RecordsError(f"{where}: {first_line(error)}") from error
    document = read_as(dict, document, where, RecordsError)
    if (version := document.get("schema_version")) != SCHEMA_VERSION:
        raise RecordsError(f"{where}: schema version {version}, this Pilotfish reads version {SCHEMA_VERSION}")
    return read_as(RecordsMeta, {**fallback, **document}, where, RecordsError, unknown="ignore")


def first_line(error: BaseException) -> str:
    """The first line of what an error of a library says."""
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
