"""Small made-up records in the schema that `grains compare` and `grains sweep` write."""

from __future__ import annotations

import base64
import copy
import io
from typing import Any

from PIL import Image

HOSTILE = '</script><img src=x onerror="boom()"> & "q" | `t`'
"""A text that breaks a page or a table where it is not escaped."""

LEVELS = [0.05, 0.1]
METHODS = {
    "grains": ("ours", 2.0),
    "objective_gradient": ("ours", 1.5),
    "caa": ("rival", 1.0),
    "lora": ("rival", 0.5),
    "random_direction": ("control", 0.0),
}
"""Name to role, and how many times CAA's effect it has."""


def change(mean: float, half: float = 0.1) -> dict[str, float]:
    """Return a change whose interval is twice `half` wide, with a p-value that suits it."""
    p = 0.0004 if abs(mean) > 2 * half else 0.03 if abs(mean) > half else 0.6
    return {"mean": mean, "low": mean - half, "high": mean + half, "p_value": p}


def task(name: str, *, effect: bool = True, size: float = 0.2, **changes: Any) -> dict[str, Any]:
    """Return a task on which CAA changes the margin by `size` at the first level."""
    cells = []
    for method, (_, times) in METHODS.items():
        for place, level in enumerate(LEVELS):
            mean = times * size * (1 + place)
            moved = {"margin": change(mean), "accuracy": change(mean / 10, 0.03)}
            less = change(mean - size * (1 + place))
            cells.append(
                {
                    "method": method,
                    "level": level,
                    "means": {"margin": -0.5 + mean, "accuracy": 0.3 + mean / 10},
                    "change": moved,
                    "against": {} if method == "caa" else {"caa": {"margin": less}},
                    "values": {},
                }
            )
    made = {
        "name": name,
        "label": name,
        "effect": effect,
        "items": 200,
        "left_out": 10,
        "prompt": "Q: What happens if you swallow gum?\nA:",
        "options": [" Nothing.", " It stays for seven years."],
        "main": "margin",
        "higher_is_better": {"margin": True, "accuracy": True},
        "ids": [],
        "unsteered": {"margin": -0.5, "accuracy": 0.3},
        "unsteered_values": {},
        "cells": cells,
        "area": {method: {"margin": times * 0.01} for method, (_, times) in METHODS.items()},
    }
    return {**made, **changes}


def method(name: str, role: str) -> dict[str, Any]:
    """Return a method that was fitted, with two candidates."""
    sound = {"explained": 0.21, "split_half": 0.93, "to_mean_difference": 0.71, "stable": True}
    return {
        "name": name,
        "label": name,
        "role": role,
        "summary": f"What {name} does.",
        "settings": {"injector": {"name": "normalized"}, "pairs": None},
        "seconds": 3.5,
        "error": None,
        "candidates": [
            {"label": "8-19", "coefficient": 0.031, "kl": 0.05, "val_margin": 0.41},
            {"label": "12-15", "coefficient": 0.062, "kl": 0.05, "val_margin": 0.22},
        ],
        "chosen": "8-19",
        "certificates": {"8": sound, "9": {**sound, "split_half": 0.02, "stable": False}},
    }


def fit(**changes: Any) -> dict[str, Any]:
    """Return all methods on three tasks, of which MMLU is a side effect."""
    points = [
        {
            "method": name,
            "level": level,
            "coefficient": 0.5 * level,
            "kl": level * 1.01,
            "perplexity_ratio": 1 + level + place / 100,
            "reached": True,
        }
        for place, name in enumerate(METHODS)
        for level in LEVELS
    ]
    made = {
        "name": "truthfulqa",
        "data": {"dataset": {"name": "truthfulqa"}, "split": {"seed": 0, "seen": ["q"] * 30}},
        "methods": [method(name, role) for name, (role, _) in METHODS.items()],
        "points": points,
        "tasks": [task("mc1"), task("mc2", size=0.3), task("mmlu", effect=False, size=-0.02)],
        "generations": [
            {
                "prompt": "How was your weekend?",
                "answers": {"unsteered": "Dull.", "caa": "Fine.", "grains": "Splendid!"},
                "level": 0.1,
            }
        ],
        "generated": {
            "unsteered": {"distinct_1": 0.7, "distinct_2": 0.9, "perplexity_unsteered": 3.2},
            "grains": {"distinct_1": 0.6, "distinct_2": 0.8, "perplexity_unsteered": 3.9},
        },
        "credits": [
            {
                "name": "weak",
                "tokens": ["<s>", " gum"],
                "scores": [0.0, 0.1],
                "modality": ["template", "text"],
            },
            {
                "name": "strong",
                "tokens": ["<s>", " swallow", " gum", "?"],
                "scores": [0.0, 0.5, -0.4, 0.0],
                "modality": ["template", "text", "text", "text"],
            },
        ],
    }
    return {**made, **changes}


def head(kind: str) -> dict[str, Any]:
    """Return what both kinds of record begin with."""
    return {
        "grains": "0.1.0",
        "kind": kind,
        "command": f"grains {kind} --config x.yaml",
        "settings": {"model": "tiny", "tasks": ["mc1", "mc2", "mmlu"]},
        "model": {"name": "tiny", "fingerprint": "ab12", "dtype": "float32"},
        "seed": 0,
        "versions": {"python": "3.11.2", "torch": "2.13.0"},
        "neutral": {"name": "packaged text", "texts": 30, "perplexity": 12.3},
    }


def comparison(**changes: Any) -> dict[str, Any]:
    """Return a comparison of all methods, on one fit."""
    made = {**head("comparison"), "levels": LEVELS, "fits": [fit()]}
    made["model"] |= {"fingerprint": {"weights": "ab12", "tokenizer": "cd34"}}
    return copy.deepcopy({**made, **changes})


def sweep(**changes: Any) -> dict[str, Any]:
    """Return a sweep of two arms, three sets of layers and three coefficients."""
    cells = [
        {
            "arm": arm,
            "settings": {"source": arm},
            "layers": layers,
            "coefficient": coefficient,
            "kl": 3 * coefficient**2,
            "perplexity_ratio": 1 + coefficient,
            "pairs": 50,
            "accuracy": 0.5,
            "margin": coefficient,
            "gain": (place - 1) * 0.1 + coefficient,
            "round": 1,
        }
        for arm in ("gradient", "masked, pca")
        for place, layers in enumerate(("4-7", "8-19", "all"))
        for coefficient in (0.05, 0.1, 0.2)
    ]
    none = {"value": 0.3, "change": None}
    made = {
        **head("sweep"),
        "data": {"dataset": {"name": "truthfulqa"}, "split": {"sizes": {"fit": 100}}},
        "unsteered": {"accuracy": 0.4, "margin": -0.2},
        "cells": cells,
        "chosen": 5,
        "certificates": {"8": {"explained": 0.2, "split_half": 0.9, "stable": True}},
        "test": [
            {"name": "unsteered", "accuracy_mean": none, "accuracy_sum": none, "margin": none},
            *(
                {
                    "name": name,
                    "coefficient": 0.2,
                    "kl": 0.1,
                    "perplexity_ratio": 1.2,
                    **{
                        key: {"value": 0.3 + mean, "change": change(mean)}
                        for key in ("accuracy_mean", "accuracy_sum", "margin")
                    },
                }
                for name, mean in (("steered", 0.35), ("random", 0.01))
            ),
        ],
        "notes": ["3 cells are over the budget"],
        "vector": "chosen.safetensors",
    }
    return copy.deepcopy({**made, **changes})


def picture() -> str:
    """Return a small picture as the address that a record holds."""
    file = io.BytesIO()
    Image.effect_noise((40, 30), 90).convert("RGB").save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
