"""A cascade as one ONNX graph or a file per stage, for programs without Pilotfish."""

from pilotfish.runtime.export.by_stage import ExportedStages, export_stages
from pilotfish.runtime.export.export import ExportedCascade, export

__all__ = ["ExportedCascade", "ExportedStages", "export", "export_stages"]
