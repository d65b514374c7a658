"""The report: one offline HTML page about a base and its savers."""

from pilotfish.report.page import write_report

__all__ = ["write_report"]
