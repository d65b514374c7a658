"""Running cascades: the engine, the loaded cascade, and the bench that holds it against the ideal."""

from pilotfish.runtime.bench import BenchResult, bench
from pilotfish.runtime.cascade import Answer, Cascade
from pilotfish.runtime.embed import save_with_weights
from pilotfish.runtime.engine import Answers, Engine, EngineStage

__all__ = ["Answer", "Answers", "BenchResult", "Cascade", "Engine", "EngineStage", "bench", "save_with_weights"]
