"""Whole jobs: build a cascade from data and model names, and the demonstration."""

from pilotfish.flow.build import BuildResult, SingleModel, build
from pilotfish.flow.demo import demo

__all__ = ["BuildResult", "SingleModel", "build", "demo"]
