"""What a Parquet file says of its size, before its rows are read."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pilotfish.errors import PilotfishError
from pilotfish.reading.limits import LARGE, check_size

_WIDTHS = {"BOOLEAN": 1, "INT32": 4, "INT64": 8, "INT96": 12, "FLOAT": 4, "DOUBLE": 8, "BYTE_ARRAY": 4}


def check_parquet(
    where: str, metadata: pq.FileMetaData, columns: Collection[str] | None, error: type[PilotfishError]
) -> None:
    """Refuse a file whose values would not fit into memory, or that would unpack like a decompression bomb.

    columns  those that are to be read; None: all. A kilobyte of runs may stand for ten thousand million rows.
    """
    claimed = packed = 0
    for chunk in _chunks(metadata):
        if columns is None or str(chunk.path_in_schema).split(".")[0] in columns:
            claimed += _claimed(chunk)
            packed += max(int(chunk.total_compressed_size), 0)
    check_size(where, claimed, packed, error)


def texts_as_dictionaries(metadata: pq.FileMetaData) -> list[str]:
    """Names of the text columns that are read as dictionaries, so that a long text that stands often is held once.

    Only those that are stored so and could take more than a gigabyte as plain texts: it takes twice the time.
    """
    most: dict[str, int] = {}
    for chunk in _chunks(metadata):
        if chunk.physical_type == "BYTE_ARRAY" and any("DICT" in encoding for encoding in chunk.encodings):
            name = str(chunk.path_in_schema)
            most[name] = most.get(name, 0) + int(chunk.num_values) * int(chunk.total_uncompressed_size)
    return [name for name, size in most.items() if size > LARGE]


def check_decoded(where: str, array: Any, most: int, error: type[PilotfishError]) -> None:
    """Refuse a dictionary array whose texts, each as often as it stands, take more than *most* bytes."""
    chunks = array.chunks if isinstance(array, pa.ChunkedArray) else [array]
    size = 0
    for chunk in chunks:
        if len(chunk.dictionary) and not pa.types.is_primitive(chunk.type.value_type):
            lengths = np.asarray(pc.binary_length(chunk.dictionary.cast(pa.large_binary())).fill_null(0))
            size += int(lengths[np.asarray(chunk.indices.drop_null())].sum(dtype=np.int64))
    if size > most:
        raise error(f"{where} would take {size:,} bytes as text, over the limit of {most:,}; shorten them")


def _chunks(metadata: pq.FileMetaData) -> list[Any]:
    groups = (metadata.row_group(i) for i in range(metadata.num_row_groups))
    return [group.column(j) for group in groups for j in range(group.num_columns)]


def _claimed(chunk: Any) -> int:
    width = _WIDTHS.get(chunk.physical_type, 16)
    return max(int(chunk.num_values) * width, int(chunk.total_uncompressed_size))
