"""Running cascades: the engine, the loaded cascade, its fastest settings here, and the bench against the ideal."""

from pilotfish.runtime.answers import Answer, Answers, summarise
from pilotfish.runtime.bench import bench
from pilotfish.runtime.cascade import Cascade
from pilotfish.runtime.choice import StageRuntime
from pilotfish.runtime.embed import save_with_weights
from pilotfish.runtime.engine import Engine
from pilotfish.runtime.sequential import predict_sequentially
from pilotfish.runtime.stage import EngineStage
from pilotfish.runtime.times import BenchResult
from pilotfish.runtime.tune_runtime import RuntimeTuning, tune_runtime

__all__ = [
    "Answer",
    "Answers",
    "BenchResult",
    "Cascade",
    "Engine",
    "EngineStage",
    "RuntimeTuning",
    "StageRuntime",
    "bench",
    "predict_sequentially",
    "save_with_weights",
    "summarise",
    "tune_runtime",
]
