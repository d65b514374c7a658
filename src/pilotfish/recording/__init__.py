"""Recording: models over data → records, resumable and in flat memory."""

from pilotfish.recording.record import RecordOptions, RecordResult, record, record_model

__all__ = ["RecordOptions", "RecordResult", "record", "record_model"]
