"""Names that documents' writer had before."""

from pilotfish.documents import as_document as document
from pilotfish.documents import as_document as to_json

__all__ = ["document", "to_json"]
