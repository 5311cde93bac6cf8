"""Time and memory of one picture's attribution as its image tokens grow.

    python -m benchmarks.image_memory

A LLaVA with random weights, one pair, all else equal. Each size runs in a process of its own, whose
peak memory is what the operating system says, less that of the same process before it attributes.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time

import torch
from PIL import Image

from benchmarks import publish as publishing

SIDES = (8, 16, 24, 32, 45)
WIDTH, BLOCKS, PATCH = 256, 6, 8


def build(side: int) -> tuple[object, object]:
    """Return a LLaVA of `side * side` image tokens with random weights, and its processor."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import (
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
        PreTrainedTokenizerFast,
    )
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    words = ["<pad>", "<s>", "</s>", "<unk>", "<image>", "what", "is", "this", "yes", "no"]
    backend = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        extra_special_tokens={"image_token": "<image>"},
    )
    size = side * PATCH
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessorPil(
            size={"shortest_edge": size}, crop_size={"height": size, "width": size}
        ),
        tokenizer=tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )
    shape = {"hidden_size": WIDTH, "intermediate_size": 2 * WIDTH, "num_attention_heads": 4}
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            **shape, num_hidden_layers=2, image_size=size, patch_size=PATCH
        ),
        text_config=LlamaConfig(
            **shape, num_hidden_layers=BLOCKS, vocab_size=len(words), num_key_value_heads=4
        ),
        image_token_id=words.index("<image>"),
        vision_feature_select_strategy="default",
        vision_feature_layer=-1,
    )
    torch.manual_seed(0)
    return LlavaForConditionalGeneration(config), processor


def attribute(side: int, steps: int, budget: int) -> dict[str, float]:
    """Attribute one pair, and return tokens, seconds and peak megabytes."""
    from grains.attributors import IntegratedGradients
    from grains.blanks import blank
    from grains.models import SteerableModel
    from grains.objectives import contrast
    from grains.types import ContrastivePair

    model = SteerableModel.load(build(side), dtype="float32")
    picture = Image.effect_noise((side * PATCH, side * PATCH), 80).convert("RGB")
    pair = ContrastivePair(
        prompt="what is this", chosen="yes", rejected="no", template="plain", image=picture
    )
    ig = IntegratedGradients(steps=steps, tolerance=None, token_budget=budget)

    def run(ig: IntegratedGradients) -> None:
        objective = contrast(model, [pair])
        fill = blank(model, [pair], objective.encoded, "mean", "mean")
        ig.attribute(objective.score, objective.inputs, objective.baseline(fill))

    objective = contrast(model, [pair])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    run(ig)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "tokens": int(objective.encoded.image.sum()),
        "seconds": seconds,
        "megabytes": (peak - before) / 1024,
    }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--steps", type=int, default=32)
    parser.add_argument("--budget", type=int, default=2048)
    parser.add_argument("--side", type=int, help="measure this one alone and print it")
    args = parser.parse_args()
    if args.side:
        print(json.dumps(attribute(args.side, args.steps, args.budget)))
        return
    rows = []
    for side in SIDES:
        command = [sys.executable, "-m", "benchmarks.image_memory", "--side", str(side)]
        command += ["--steps", str(args.steps), "--budget", str(args.budget)]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        found = json.loads(said.splitlines()[-1])
        rows.append(
            [
                f"{found['tokens']}",
                f"{found['seconds']:.2f}",
                f"{1000 * found['seconds'] / found['tokens']:.2f}",
                f"{found['megabytes']:.0f}",
            ]
        )
    body = (
        f"LLaVA with random weights (width {WIDTH}, {BLOCKS} blocks) in float32 on a CPU, one "
        f"pair, {args.steps} steps of integrated gradients, {args.budget} positions in one "
        "pass.\n\n"
        + publishing.table(["image tokens", "seconds", "ms a token", "MB more at peak"], rows)
    )
    publishing.publish("image_memory", "Attribution of a picture: time and memory", body)


if __name__ == "__main__":
    main()
