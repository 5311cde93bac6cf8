"""Does the score follow the credits? Deletion and insertion, of words and of parts of pictures.

    python -m benchmarks.faithfulness

SmolLM2-135M-Instruct on TruthfulQA's questions, and shapes-llava on drawn scenes: what its answer
to "is there a red circle?" and its captions hang on. Each attributor's ranking beside random ones.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from tqdm.auto import tqdm

from benchmarks import publish as publishing
from benchmarks.planted_truth import ASKED, pair_of
from grains.data import SteeringDataModule
from grains.data.scenes import Scenes, ordinary_scenes
from grains.faithfulness import Faithfulness, Perturbation, measure, plot
from grains.metrics import Interval
from grains.models import SteerableModel
from grains.types import ContrastivePair

FIXED = {"name": "integrated_gradients", "steps": 16, "tolerance": None}
OTHERS = ["gradient_x_input", "smoothgrad", "occlusion", "random"]
LEAST = 0.1


def said(interval: Interval) -> str:
    """Return an interval in as few characters as it takes."""
    return f"{interval.mean:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]"


def table(found: Faithfulness) -> str:
    """Return areas and advantages, one row an attributor."""
    headings = [
        "attributor", "passes", "median gap", "deletion", "insertion", "advantage of deletion",
        "advantage of insertion", "deletion, nats", "insertion, nats",
    ]  # fmt: skip
    rows = []
    for name, curves in found.curves.items():
        gap, won = found.gaps[name], found.advantages(name)
        nats = found.advantages(name, nats=True)
        rows.append(
            [
                name,
                f"{found.passes[name]:.0f}",
                "" if gap.isnan().any() else f"{float(gap.median()):.1%}",
                *(f"{float(area):.3f}" for area in found.mean(curves).areas),
                *(said(won[kind]) for kind in ("deletion", "insertion")),
                *(said(nats[kind]) for kind in ("deletion", "insertion")),
            ]
        )
    areas = [f"{float(area):.3f}" for area in found.mean(found.random).areas]
    rows.append(["random rankings", "", "", *areas, "", "", "", ""])
    return publishing.table(headings, rows)


def short(found: Faithfulness) -> str:
    """Return the two advantages alone."""
    rows = []
    for name in found.curves:
        won = found.advantages(name)
        rows.append([name, *(said(won[kind]) for kind in ("deletion", "insertion"))])
    return publishing.table(["attributor", "deletion", "insertion"], rows)


def part(
    title: str,
    about: str,
    name: str,
    model: SteerableModel,
    pairs: Sequence[ContrastivePair],
    attributors: Sequence[Any],
    settings: Perturbation,
) -> tuple[str, str]:
    """Measure, draw the curves, and return the section in full and in short."""
    found = measure(model, pairs, attributors, settings)
    plot(found).save(publishing.RESULTS / f"{name}.png")
    count = len(found.pairs) - found.left_out
    left = f", {found.left_out} of {len(found.pairs)} left out" if found.left_out else ""
    picture = f"![{title}](benchmarks/results/{name}.png)"
    opening = f"**{title}.** {about} {count} pairs{left}.\n\n"
    tqdm.write(opening + table(found))  # the whole takes long: show what there is
    return f"{opening}{table(found)}\n\n{picture}", f"{opening}{short(found)}"


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--only", nargs="*", help="of: truthfulqa, presence, captions")
    args = parser.parse_args()
    wanted = args.only or ["truthfulqa", "presence", "captions"]
    parts = []
    if "truthfulqa" in wanted:
        data = SteeringDataModule("truthfulqa", fit=0, val=0, test=args.pairs)
        parts.append(
            part(
                "Words of TruthfulQA's questions",
                "SmolLM2-135M-Instruct in float32: log p of the true answer less that of the false "
                "one, a token; filled words become the mean embedding.",
                "faithfulness_truthfulqa",
                SteerableModel.load("smollm2-135m-instruct", dtype="float32"),
                data.split.test,
                [{"name": "integrated_gradients", "max_steps": 144, "token_budget": 512}]
                + [{**FIXED, "token_budget": 512}]
                + [{"name": name, "token_budget": 512} for name in OTHERS],
                Perturbation(least_change=LEAST, token_budget=512),
            )
        )
    shapes = SteerableModel.load("shapes-llava", dtype="float32")
    seen = Perturbation(modality="image", image_baseline="blur", least_change=LEAST)
    all_of_them = [{"name": "integrated_gradients", "max_steps": 144}, FIXED, *OTHERS]
    if "presence" in wanted:
        drawn = ordinary_scenes(40 * args.pairs, 0, "test")
        scenes = [scene for scene in drawn if scene.names.count(ASKED) == 1][: args.pairs]
        parts.append(
            part(
                "Parts of a picture that is asked about",
                f'shapes-llava in float32: "is there a {ASKED}?", yes less no, where there is one; '
                "filled parts become the blurred picture's.",
                "faithfulness_presence",
                shapes,
                [pair_of(scene, number) for number, scene in enumerate(scenes)],
                all_of_them,
                seen,
            )
        )
    if "captions" in wanted:
        captions = SteeringDataModule(Scenes(count=10 * args.pairs), fit=0, val=0, test=args.pairs)
        parts.append(
            part(
                "Parts of a picture that is described",
                "shapes-llava in float32 on scenes that break its prior: the true caption less the "
                "one with a thing made up, a token; filled parts become the blurred picture's.",
                "faithfulness_captions",
                shapes,
                captions.split.test,
                all_of_them,
                seen,
            )
        )
    body = (
        "Positions are filled, most credited first, and put back, most credited first, in ten "
        "steps; the area under the mean score on the way, full input 1 and blank input 0. Deletion "
        "is better the lower, insertion the higher. Advantages are over the mean of 4 random "
        "rankings a pair and their reverses, above 0 where the ranking is better, with 95 % "
        f"paired-bootstrap intervals over pairs. Pairs whose score changes by less than {LEAST:g} "
        "nats between full and blank input have no unit: they are left out, but for the columns in "
        "nats. Where the input lowers the score, the opposite score is explained. "
        "`tolerance=None` takes 16 steps and no more; `max_steps=144` refines to a gap of 1 % or "
        "144 passes.\n\n"
    )
    publishing.publish(
        "faithfulness",
        "Faithfulness: does the score follow the credits?",
        body + "\n\n".join(long for long, _ in parts),
        body + "\n\n".join(brief for _, brief in parts),
    )


if __name__ == "__main__":
    main()
