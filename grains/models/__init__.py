"""Transformers models behind the few verbs that steering needs."""

from grains.models.encoding import TEMPLATES, Encoded, Encoder
from grains.models.model import Fill, SteerableModel

__all__ = ["TEMPLATES", "Encoded", "Encoder", "Fill", "SteerableModel"]
