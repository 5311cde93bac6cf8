"""Ways to steer, whole: ours, rivals' and controls', all fitted on the same pairs."""

from grains.methods.adapter import LoraSteering
from grains.methods.ascent import Ascent
from grains.methods.base import METHODS, Candidate, Material, Method, Steering
from grains.methods.controls import LabelsShuffled, RandomDirection, RandomMasks, ReversedRanking
from grains.methods.instruction import Instruction, InstructionSteering
from grains.methods.iti import ITI
from grains.methods.lora import Lora
from grains.methods.ours import Grains, ObjectiveGradient
from grains.methods.rivals import CAA, CAST, ICV, VTI, Ablation, ActAdd, RepE
from grains.methods.vector import Vector, VectorMethod

__all__ = [
    "CAA",
    "CAST",
    "ICV",
    "ITI",
    "METHODS",
    "VTI",
    "Ablation",
    "ActAdd",
    "Ascent",
    "Candidate",
    "Grains",
    "Instruction",
    "InstructionSteering",
    "LabelsShuffled",
    "Lora",
    "LoraSteering",
    "Material",
    "Method",
    "ObjectiveGradient",
    "RandomDirection",
    "RandomMasks",
    "RepE",
    "ReversedRanking",
    "Steering",
    "Vector",
    "VectorMethod",
]
