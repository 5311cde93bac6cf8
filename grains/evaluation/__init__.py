"""Benchmarks by name, unsteered beside steered, question by question."""

from grains.evaluation.base import TASKS, Judge, Scores, Task
from grains.evaluation.caa import (
    Coordination,
    Corrigibility,
    Hallucination,
    SurvivalInstinct,
    Sycophancy,
)
from grains.evaluation.choice import ChoiceTask
from grains.evaluation.compare import Asked, Result, evaluate, seen_by, tells_what_it_saw
from grains.evaluation.faitheval import (
    CounterfactualContext,
    InconsistentContext,
    UnanswerableContext,
)
from grains.evaluation.generation import GenerationTask
from grains.evaluation.mmlu import MMLUTask
from grains.evaluation.neutral import Continuation, Perplexity
from grains.evaluation.toxigen import ToxiGenClassification, ToxiGenPreference
from grains.evaluation.truthfulqa import (
    TruthfulQABinary,
    TruthfulQAGeneration,
    TruthfulQAMC1,
    TruthfulQAMC2,
)

__all__ = [
    "TASKS",
    "Asked",
    "ChoiceTask",
    "Continuation",
    "Coordination",
    "Corrigibility",
    "CounterfactualContext",
    "GenerationTask",
    "Hallucination",
    "InconsistentContext",
    "Judge",
    "MMLUTask",
    "Perplexity",
    "Result",
    "Scores",
    "SurvivalInstinct",
    "Sycophancy",
    "Task",
    "ToxiGenClassification",
    "ToxiGenPreference",
    "TruthfulQABinary",
    "TruthfulQAGeneration",
    "TruthfulQAMC1",
    "TruthfulQAMC2",
    "UnanswerableContext",
    "evaluate",
    "seen_by",
    "tells_what_it_saw",
]
