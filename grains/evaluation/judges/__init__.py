"""Judges of written answers, by name: a rule, a local model, a classifier, an address."""

from grains.evaluation.judges.base import JUDGES, Judge
from grains.evaluation.judges.classifier import ClassifierJudge
from grains.evaluation.judges.likelihood import LikelihoodJudge
from grains.evaluation.judges.openai import OpenAIJudge
from grains.evaluation.judges.reference import ReferenceJudge

__all__ = [
    "JUDGES",
    "ClassifierJudge",
    "Judge",
    "LikelihoodJudge",
    "OpenAIJudge",
    "ReferenceJudge",
]
