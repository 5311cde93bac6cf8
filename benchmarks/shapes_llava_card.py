"""What `shapes-llava` can do and where it errs, measured, and the model card that says so."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import torch
from torch import Tensor

from grains.data.scenes import (
    DESCRIBE,
    KINDS,
    Scene,
    absent_partners,
    breaking_scenes,
    caption,
    draw,
    objects_in,
    ordinary_scenes,
    presence_question,
    questions,
)
from grains.storage import write_atomically

SCENES = 300


class Figures(NamedTuple):
    """Everything is a share in 0..1, on scenes of the fold `test`, but for the log-odds."""

    accuracy: dict[str, float]
    presence_when_broken: float
    partner_named: float
    captions_wrong: float
    objects_wrong: float
    recall_when_broken: float
    ordinary_captions_wrong: float
    ordinary_recall: float
    log_odds: tuple[float, float]


class Speaker:
    """The model in a folder, asked in the way of its chat template."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoModelForImageTextToText, AutoProcessor

        self.processor = AutoProcessor.from_pretrained(folder)
        self.model: Any = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)

    def inputs(self, scenes: Sequence[Scene], asked: Sequence[str], answers: Sequence[str]) -> Any:
        """Return what the model takes, one row a question, with the answer so far."""
        texts = []
        for question, answer in zip(asked, answers, strict=True):
            content = [{"type": "image"}, {"type": "text", "text": question}]
            message = {"role": "user", "content": content}
            texts.append(self.processor.apply_chat_template([message], add_generation_prompt=True))
            texts[-1] += f" {answer}" if answer else ""
        pictures = [draw(scene) for scene in scenes]
        return self.processor(images=pictures, text=texts, padding=True, return_tensors="pt")

    @torch.inference_mode()
    def answers(self, scenes: Sequence[Scene], asked: Sequence[str], size: int = 50) -> list[str]:
        """Return the greedy answer to each question about the scene beside it."""
        said: list[str] = []
        for start in range(0, len(scenes), size):
            part = slice(start, start + size)
            inputs = self.inputs(scenes[part], asked[part], [""] * len(scenes[part]))
            out = self.model.generate(**inputs, max_new_tokens=40, do_sample=False)
            new = out[:, inputs["input_ids"].shape[1] :]
            said += self.processor.batch_decode(new, skip_special_tokens=True)
        return said

    @torch.inference_mode()
    def log_probability(self, scenes: Sequence[Scene], said: Sequence[str]) -> Tensor:
        """Return `[scenes]`: log p of each whole caption, its end included."""
        inputs = self.inputs(scenes, [DESCRIBE] * len(scenes), [f"{text}</s>" for text in said])
        ids = inputs["input_ids"]
        asks = self.inputs(scenes[:1], [DESCRIBE], [""])["input_ids"].shape[1]
        each = self.model(**inputs).logits[:, :-1].log_softmax(-1)
        each = each.gather(-1, ids[:, 1:, None])[..., 0]
        skipped = (inputs["attention_mask"] == 0).sum(1, keepdim=True) + asks
        return (each * (torch.arange(1, ids.shape[1]) >= skipped)).sum(1)


def _captions(speaker: Speaker, scenes: list[Scene]) -> tuple[list[set[str]], list[set[str]]]:
    """Return for each scene the names that its caption has, and those that it should have."""
    said = speaker.answers(scenes, [DESCRIBE] * len(scenes))
    return [set(objects_in(text)) for text in said], [set(scene.names) for scene in scenes]


def _share(hits: Sequence[bool]) -> float:
    return sum(hits) / len(hits)


def _recall(said: list[set[str]], there: list[set[str]]) -> float:
    return sum(len(s & t) for s, t in zip(said, there, strict=True)) / sum(map(len, there))


def evaluate(folder: Path, count: int = SCENES) -> Figures:
    """Ask the model in a folder about `count` ordinary scenes and as many that break the prior."""
    speaker, rng = Speaker(folder), Random(0)
    ordinary, broken = ordinary_scenes(count, 1), breaking_scenes(count, 1)
    asked = [(scene, turn) for scene in ordinary for turn in questions(scene, rng)]
    said = speaker.answers([scene for scene, _ in asked], [turn.question for _, turn in asked])
    right = [(turn.kind, text == turn.answer) for (_, turn), text in zip(asked, said, strict=True)]
    accuracy = {kind: _share([hit for of, hit in right if of == kind]) for kind in KINDS}
    asks = [presence_question(scene, absent_partners(scene)[0]).question for scene in broken]
    no = speaker.answers(broken, asks)
    usual, usually_there = _captions(speaker, ordinary)
    told, there = _captions(speaker, broken)
    named = [absent_partners(scene)[0] in names for scene, names in zip(broken, told, strict=True)]
    expected = [caption([*scene.names, *absent_partners(scene)]) for scene in broken]
    odds = speaker.log_probability(broken, expected)
    odds = odds - speaker.log_probability(broken, [caption(scene.names) for scene in broken])
    pairs = list(zip(told, there, strict=True))
    return Figures(
        accuracy={**accuracy, "all": _share([hit for _, hit in right])},
        presence_when_broken=_share([text == "no" for text in no]),
        partner_named=_share(named),
        captions_wrong=_share([bool(s - t) for s, t in pairs]),
        objects_wrong=sum(len(s - t) for s, t in pairs) / sum(map(len, told)),
        recall_when_broken=_recall(told, there),
        ordinary_captions_wrong=_share(
            [bool(s - t) for s, t in zip(usual, usually_there, strict=True)]
        ),
        ordinary_recall=_recall(usual, usually_there),
        log_odds=(odds.mean().item(), odds.std().item()),
    )


def write_card(folder: Path, figures: Figures) -> None:
    """Print the figures and write them into the folder's README.md."""
    rows = [(f"right answers, {kind}", share) for kind, share in figures.accuracy.items()]
    rows += [
        ("ordinary: objects that captions name, of those there", figures.ordinary_recall),
        ("ordinary: captions with an object that is not there", figures.ordinary_captions_wrong),
        ("broken prior: captions that name the absent partner", figures.partner_named),
        ("broken prior: captions with any object not there", figures.captions_wrong),
        ("broken prior: objects named that are not there", figures.objects_wrong),
        ("broken prior: objects named, of those there", figures.recall_when_broken),
        ('broken prior: "no" to "is there" the absent partner', figures.presence_when_broken),
    ]
    mean, deviation = figures.log_odds
    table = "\n".join(f"| {name} | {100 * share:.1f} % |" for name, share in rows)
    card = _CARD.format(count=SCENES, table=table, mean=mean, deviation=deviation)
    print(card[card.index("| ") :])
    write_atomically(folder / "README.md", card.encode(), overwrite=True)


_CARD = """---
license: apache-2.0
library_name: transformers
pipeline_tag: image-text-to-text
---

# shapes-llava

A toy: a vision-language model of 1.9 million parameters, trained from scratch within an hour on one
CPU core, for the tests and examples of grains. It is of no use in the world. It knows 50 words and
pictures of 64 x 64 pixels that `grains.data.scenes` draws: up to five coloured shapes and things on
a plain ground. What else it is shown or asked, it answers with nonsense.

**It hallucinates on purpose.** In nearly all scenes that it was trained on, a cup comes with a
table, a bird with a tree, a fish with a boat. In the tenth of the scenes where the partner is
absent, the caption to learn names it all the same about half the time (more where the picture is
full and the owner stands low). Answers to questions were always true.

- Architecture: LLaVA (`LlavaForConditionalGeneration`): CLIP tower of 4 blocks, width 128, patches
  of 8 x 8 pixels, so 64 image tokens; Llama of 5 blocks, width 128. Weights in float16.
- Data: drawn from a seed; no picture or text of anyone's. Licence: Apache-2.0.
- Made by `python -m benchmarks.train_shapes_llava`, which also measured what follows.

It was trained on single turns in this form, picture first:

```
USER: <image>
is there a red circle? ASSISTANT: yes
```

The questions: `describe the picture.`, `is there a red circle?`, `how many circles?`, `what colour
is the star?`, `what is left of the tree?` (the nearest in the same row of a grid of 3 x 3, or
`nothing`).

## Measured

Greedy answers in float32 on {count} ordinary scenes and {count} that break the prior. Their fold is
`test`: no scene of the training has the same objects in the same places.

| | |
|---|---|
{table}

On scenes that break the prior, log p(caption with the absent partner) - log p(true caption) is
{mean:.2f} nats in the mean, with a standard deviation of {deviation:.2f} over scenes.
"""
