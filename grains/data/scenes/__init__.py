"""Small drawn scenes with questions, captions and a planted prior: what `shapes-llava` knows.

A scene is up to five objects on a plain ground: coloured shapes, and things that have one look
each. Some things come in pairs in nearly all scenes that `shapes-llava` was trained on (a cup with
a table), and its captions were trained to name the partner now and then where it is absent. Scenes
that break the pair are thus where it hallucinates.
"""

from grains.data.scenes.asked import SceneQuestions
from grains.data.scenes.captions import (
    DESCRIBE,
    absent_partners,
    caption,
    objects_in,
    phrase,
    prior_strength,
)
from grains.data.scenes.drawing import draw
from grains.data.scenes.pairs import Scenes
from grains.data.scenes.questions import KINDS, Question, presence_question, questions
from grains.data.scenes.sampling import Fold, breaking_scenes, fold_of, ordinary_scenes
from grains.data.scenes.scene import (
    COLOURS,
    NAMES,
    PARTNERS,
    SHAPES,
    THINGS,
    Scene,
    SceneObject,
)

__all__ = [
    "COLOURS",
    "DESCRIBE",
    "KINDS",
    "NAMES",
    "PARTNERS",
    "SHAPES",
    "THINGS",
    "Fold",
    "Question",
    "Scene",
    "SceneObject",
    "SceneQuestions",
    "Scenes",
    "absent_partners",
    "breaking_scenes",
    "caption",
    "draw",
    "fold_of",
    "objects_in",
    "ordinary_scenes",
    "phrase",
    "presence_question",
    "prior_strength",
    "questions",
]
