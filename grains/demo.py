"""The demo: fit, choose and test cheerfulness on a small real model, and show what it says.

Run with `make demo`, or `python -m grains.demo [FILE]`. Two cores need some minutes.
"""

from __future__ import annotations

import logging
import sys
import time
import warnings
from pathlib import Path

import lightning as L

from grains import SteerableModel, SteeringDataModule, SteeringModule, SteeringVector

PROMPTS = ["How was the meeting?", "How do you feel about the rain?"]
"""None is among the starter pairs. Of twelve that were tried, two on which the change is easy to
see; on some of the others the steered answer differs little in mood."""


def main(path: str | Path = "out/cheerfulness.safetensors") -> None:
    """Fit on the starter pairs, print what steering does and costs, and write the vector.

    Args:
        path: where the vector goes; a file from an earlier run is replaced.
    """
    started = time.monotonic()
    # Lightning remarks that nothing is trained; so it is.
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    model = SteerableModel.load("smollm2-135m-instruct", dtype="bfloat16")
    data = SteeringDataModule(
        {"name": "starter", "behavior": "cheerfulness"}, fit=32, val=28, batch_size=4
    )
    steering = SteeringModule(
        model,
        # Fixed steps take a fixed time; the completeness gap that remains is printed below.
        attributor={"name": "integrated_gradients", "tolerance": None},
        save_to=path,
        overwrite=True,
    )
    print(f"{model}\n1. Fit on 32 pairs, choose the coefficient on 28 others")
    trainer = L.Trainer(
        max_epochs=1, logger=False, enable_checkpointing=False, enable_model_summary=False
    )
    trainer.fit(steering, data)
    assert steering.vector is not None
    print(since(started))
    print("\n2. Test on the other 60, beside controls that do the same damage")
    trainer.test(steering, data, verbose=False)
    gains = [f"{each.name} {each.margin.change.mean:+.3f}" for each in steering.outcomes[1:]]
    print(f"margin gained, in nats a token at equal KL: {', '.join(gains)}; {since(started)}")
    print("\n3. What the model says (greedy; two prompts on which the change is easy to see)")
    show_answers(model, steering.vector)
    print(f"\nwrote {path}: {steering.vector}; {since(started)}")


def since(started: float) -> str:
    """Return how long ago that was, to be printed."""
    return f"{time.monotonic() - started:.0f} s so far"


def show_answers(model: SteerableModel, vector: SteeringVector) -> None:
    """Print the answers to the demo's prompts, unsteered and steered."""
    options = {"template": "qa", "max_new_tokens": 40}
    unsteered = model.generate(PROMPTS, **options)
    with vector.applied_to(model):
        steered = model.generate(PROMPTS, **options)
    for prompt, before, after in zip(PROMPTS, unsteered, steered, strict=True):
        print(f"{prompt}\n  unsteered: {before}\n  steered:   {after}")


if __name__ == "__main__":
    main(*sys.argv[1:2])
