"""What an environment and a machine are fit for."""

from pilotfish.doctor.examination import Examination, examine

__all__ = ["Examination", "examine"]
