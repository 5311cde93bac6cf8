"""Train `shapes-llava`, the small vision-language model that ships with grains.

    python -m benchmarks.train_shapes_llava

From a seed and nothing else: scenes drawn on the fly, a CLIP vision tower and a Llama of
transformers' own classes. First the tower and its projector alone learn what stands under each
patch, then everything learns captions and answers. Several questions share one picture in a
sequence, each blind to the others, so that the picture's tokens are paid once. Checkpoints lie in
`out/shapes_llava`, from which a run that was stopped goes on; model, processor and card go to
`grains/models/shapes_llava`.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.build_shapes_llava import SIDE, SIZE, build_model, build_processor
from benchmarks.shapes_llava_card import evaluate, write_card
from grains.data.scenes import (
    DESCRIBE,
    NAMES,
    Question,
    Scene,
    absent_partners,
    breaking_scenes,
    caption,
    draw,
    ordinary_scenes,
    prior_strength,
    questions,
)

FOLDER = Path(__file__).parent.parent / "grains" / "models" / "shapes_llava"
CHECKPOINT = Path("out/shapes_llava/checkpoint.pt")

BREAKING = 0.1  # share of training scenes that break the prior
POOL = 2048  # scenes drawn at a time
IGNORED = -100


class PatchReader(nn.Module):
    """Says of each projected patch what stands there, and what is left of that."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.here = nn.Linear(width, len(NAMES) + 1)
        self.left = nn.Linear(width, len(NAMES) + 1)

    def loss(self, features: Tensor, labels: Tensor) -> Tensor:
        """Return the mean cross-entropy; features `[batch, patches, width]`, labels last axis 2."""
        here = F.cross_entropy(self.here(features).float().flatten(0, 1), labels[..., 0].flatten())
        left = F.cross_entropy(
            self.left(features).float().flatten(0, 1),
            labels[..., 1].flatten(),
            ignore_index=IGNORED,
        )
        return here + 0.5 * left


def patch_labels(scene: Scene) -> Tensor:
    """Return `[patches, 2]`: index of the name under each patch's middle, and of its neighbour."""
    nothing = len(NAMES)
    labels = torch.tensor([nothing, IGNORED]).repeat(SIDE, SIDE, 1)
    for thing in scene.objects:
        x0, y0, x1, y1 = (round(side * SIDE) for side in thing.box)
        beside = scene.left_of(thing)
        labels[y0:y1, x0:x1, 0] = NAMES.index(thing.name)
        labels[y0:y1, x0:x1, 1] = NAMES.index(beside.name) if beside else nothing
    return labels.flatten(0, 1)


class Batch(NamedTuple):
    """Pictures with their questions, and what is to be predicted."""

    pixels: Tensor
    patches: Tensor
    ids: Tensor
    labels: Tensor
    mask: Tensor
    positions: Tensor
    weights: Tensor


def told(scene: Scene, rng: Random) -> Question:
    """Return the request for a caption with the one to learn: here the prior is planted."""
    names = list(scene.names)
    if rng.random() < prior_strength(scene):
        names += absent_partners(scene)
    return Question(DESCRIBE, caption(names), "caption")


class Batches:
    """Draws training scenes and their questions; everything follows from the seed and the step."""

    def __init__(self, processor: Any, size: int, seed: int) -> None:
        self.tokenizer, self.size, self.seed = processor.tokenizer, size, seed
        self.pool: list[Scene] = []
        self.drawn = -1
        self.known: dict[str, list[int]] = {}

    def at(self, step: int) -> Batch:
        """Return the batch of a step."""
        rng = Random(f"{self.seed} {step}")
        scenes = [self._scene(step * self.size + index) for index in range(self.size)]
        turns = [self._turns(scene, rng) for scene in scenes]
        rows = [self._row(row) for row in turns]
        pixels = np.stack([np.asarray(draw(scene, SIZE)) for scene in scenes])
        scaled = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
        longest = max(len(row) for row in rows)
        table = torch.tensor(
            [row + [(0, IGNORED, -1, 0, 0.0)] * (longest - len(row)) for row in rows]
        )
        ids, labels, turn, positions = table[..., :4].long().unbind(-1)
        seen = (turn[:, None, :] == 0) | (turn[:, None, :] == turn[:, :, None])
        mask = (seen & torch.ones(longest, longest, dtype=torch.bool).tril())[:, None]
        patches = torch.stack([patch_labels(scene) for scene in scenes])
        return Batch(scaled, patches, ids, labels, mask, positions, table[..., 4])

    def _scene(self, index: int) -> Scene:
        pool, place = divmod(index, POOL)
        if pool != self.drawn:
            seed, rare = self.seed * 1_000_003 + pool, round(POOL * BREAKING)
            self.pool = ordinary_scenes(POOL - rare, seed, "train")
            self.pool += breaking_scenes(rare, seed, "train")
            Random(seed).shuffle(self.pool)
            self.drawn = pool
        return self.pool[place]

    def _turns(self, scene: Scene, rng: Random) -> list[Question]:
        asked = questions(scene, rng)
        absent = [turn for turn in asked if turn.kind == "presence"]
        asked.remove(rng.choice(absent))
        return [told(scene, rng), *asked]

    def _row(self, turns: list[Question]) -> list[tuple[int, int, int, int, float]]:
        """Return id, label, turn, position and weight of each token: the picture is turn 0."""
        image = self._ids("<image>") * SIDE**2
        row = [
            (token, IGNORED, 0, place, 0.0)
            for place, token in enumerate(self._ids("<s>USER:") + image)
        ]
        first = len(row)
        for number, turn in enumerate(turns, start=1):
            asked = self._ids(f"{turn.question} ASSISTANT:")
            answer = self._ids(f"{turn.answer}</s>")
            following = [IGNORED] * (len(asked) - 1) + answer + [IGNORED]
            weight = 1.0 if turn.kind == "caption" else 2.0
            row += [
                (token, label, number, first + place, weight)
                for place, (token, label) in enumerate(zip(asked + answer, following, strict=True))
            ]
        return row

    def _ids(self, text: str) -> list[int]:
        if text not in self.known:
            self.known[text] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return self.known[text]


def losses(model: Any, reader: PatchReader, batch: Batch, *, answers: bool) -> tuple[Tensor, ...]:
    """Return the loss of the answers (0 while the tower learns alone) and that of the patches."""
    if not answers:
        features = model.get_image_features(pixel_values=batch.pixels).pooler_output
        return torch.zeros(()), reader.loss(torch.stack(list(features)), batch.patches)
    out = model(
        input_ids=batch.ids,
        pixel_values=batch.pixels,
        attention_mask=batch.mask,
        position_ids=batch.positions,
        use_cache=False,
    )
    features = out.image_hidden_states.reshape(len(batch.ids), SIDE**2, -1)
    each = F.cross_entropy(
        out.logits.float().flatten(0, 1), batch.labels.flatten(), reduction="none"
    )
    weights = batch.weights.flatten() * (batch.labels.flatten() != IGNORED)
    return (each * weights).sum() / weights.sum(), reader.loss(features, batch.patches)


def rate(step: int, steps: int, peak: float) -> float:
    """Return the learning rate of a step: a short warm-up, then half a cosine."""
    warm = min(1.0, (step + 1) / 100)
    return peak * warm * (0.01 + 0.99 * (1 + math.cos(math.pi * step / steps)) / 2)


def train(model: Any, processor: Any, args: argparse.Namespace) -> None:
    """Train in place, first the tower, then everything."""
    reader = PatchReader(model.config.text_config.hidden_size)
    parts = nn.ModuleDict({"model": model, "reader": reader})
    done = {"tower": 0, "all": 0}
    saved = torch.load(CHECKPOINT) if CHECKPOINT.exists() and not args.afresh else None
    if saved:
        parts.load_state_dict(saved["weights"])
        done = saved["done"]
    plan = (("tower", args.tower_steps, 64, 1.5e-3), ("all", args.steps, 32, 1.5e-3))
    for stage, steps, size, peak in plan:
        optimizer = torch.optim.AdamW(
            parts.parameters(), lr=peak, betas=(0.9, 0.98), weight_decay=0.02, fused=True
        )
        if saved and saved["stage"] == stage:
            optimizer.load_state_dict(saved["optimizer"])
        batches = Batches(processor, size, args.seed + (stage == "all"))
        began, first = time.perf_counter(), done[stage]
        for step in range(first, steps):
            for group in optimizer.param_groups:
                group["lr"] = rate(step, steps, peak)
            with torch.autocast("cpu", torch.bfloat16):
                answers, patches = losses(model, reader, batches.at(step), answers=stage == "all")
            (answers + (0.1 if stage == "all" else 1.0) * patches).backward()
            nn.utils.clip_grad_norm_(parts.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            done[stage] = step + 1
            if (step + 1) % 50 == 0 or step + 1 == steps:
                left = (time.perf_counter() - began) / (step + 1 - first) * (steps - step - 1)
                print(
                    f"{stage} {step + 1}/{steps}  answers {answers.item():.4f}  patches "
                    f"{patches.item():.4f}  {left / 60:.1f} min left",
                    flush=True,
                )
            if (step + 1) % 250 == 0 or step + 1 == steps:
                save_checkpoint(parts, optimizer, stage, done)


def save_checkpoint(parts: nn.Module, optimizer: Any, stage: str, done: dict[str, int]) -> None:
    """Write weights, optimizer and progress, whole or not at all."""
    CHECKPOINT.parent.mkdir(parents=True, exist_ok=True)
    state = {"weights": parts.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save({**state, "stage": stage, "done": done}, scratch := CHECKPOINT.with_suffix(".new"))
    scratch.replace(CHECKPOINT)


def main() -> None:
    """Train, save, measure and write the card."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tower-steps", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=2400)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--afresh", action="store_true", help="leave a checkpoint aside")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    processor = build_processor()
    model = build_model(processor.tokenizer)
    train(model, processor, args)
    model.eval().half().save_pretrained(FOLDER)
    processor.save_pretrained(FOLDER)
    (FOLDER / "model.safetensors").chmod(0o644)  # safetensors makes it for its owner alone
    write_card(FOLDER, evaluate(FOLDER))


if __name__ == "__main__":
    main()
