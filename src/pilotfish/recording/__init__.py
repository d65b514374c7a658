"""Recording: models over data → records, resumable and in flat memory."""

from pilotfish.recording.options import RecordOptions, RecordResult
from pilotfish.recording.record import record, record_model

__all__ = ["RecordOptions", "RecordResult", "record", "record_model"]
