"""Transformers models behind the few verbs that steering needs."""

from grains.models.branches import LogProbs, log_probs_of
from grains.models.encoding import TEMPLATES, Encoded, Encoder
from grains.models.fills import Fill
from grains.models.model import SteerableModel

__all__ = ["TEMPLATES", "Encoded", "Encoder", "Fill", "LogProbs", "SteerableModel", "log_probs_of"]
