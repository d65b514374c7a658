"""A cascade as one ONNX graph, for programs that know nothing of Pilotfish."""

from pilotfish.runtime.export.export import export
from pilotfish.runtime.export.exported import ExportedCascade

__all__ = ["ExportedCascade", "export"]
