"""Benchmarks by name, unsteered beside steered, question by question."""

from grains.evaluation.base import TASKS, Metrics, Scores, Share, Task
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
from grains.evaluation.judges import (
    JUDGES,
    ClassifierJudge,
    Judge,
    LikelihoodJudge,
    OpenAIJudge,
    ReferenceJudge,
)
from grains.evaluation.mmhal_bench import MMHalBenchTask
from grains.evaluation.mmlu import MMLUTask
from grains.evaluation.mmmu import MMMUTask
from grains.evaluation.neutral import Continuation, Perplexity
from grains.evaluation.pope import POPEGeneration, POPELikelihood
from grains.evaluation.preference import Preference
from grains.evaluation.scenes import SceneCaptions, SceneQuestionsTask
from grains.evaluation.spa_vl import SPAVLPreference
from grains.evaluation.toxigen import ToxiGenClassification, ToxiGenPreference
from grains.evaluation.truthfulqa import (
    TruthfulQABinary,
    TruthfulQAGeneration,
    TruthfulQAMC1,
    TruthfulQAMC2,
)

__all__ = [
    "JUDGES",
    "TASKS",
    "Asked",
    "ChoiceTask",
    "ClassifierJudge",
    "Continuation",
    "Coordination",
    "Corrigibility",
    "CounterfactualContext",
    "GenerationTask",
    "Hallucination",
    "InconsistentContext",
    "Judge",
    "LikelihoodJudge",
    "MMHalBenchTask",
    "MMLUTask",
    "MMMUTask",
    "Metrics",
    "OpenAIJudge",
    "POPEGeneration",
    "POPELikelihood",
    "Perplexity",
    "Preference",
    "ReferenceJudge",
    "Result",
    "SPAVLPreference",
    "SceneCaptions",
    "SceneQuestionsTask",
    "Scores",
    "Share",
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
