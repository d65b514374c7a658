"""Whole jobs: build a cascade from data and model names, and the demonstration."""

from pilotfish.flow.best_cascade import SingleModel
from pilotfish.flow.build import BuildResult, build
from pilotfish.flow.demo import demo

__all__ = ["BuildResult", "SingleModel", "build", "demo"]
