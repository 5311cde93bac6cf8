"""Run a comparison: every method on every behaviour, and one record of it all."""

from __future__ import annotations

import os
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous
from tqdm.auto import tqdm

from grains._version import __version__
from grains.card import plain
from grains.cells import CellStore
from grains.comparison.bench import Bench
from grains.comparison.plan import Named, Plan
from grains.comparison.record import record_of
from grains.errors import GrainsError
from grains.models import SteerableModel


def compare(
    plan: Plan,
    folder: str | Path | None = None,
    *,
    model: SteerableModel | None = None,
    fresh: bool = False,
    command: str = "",
    quiet: bool = False,
) -> dict[str, Any]:
    """Fit every method, bring each to the same damage, and score each on the same questions.

    Args:
        plan: what to compare.
        folder: where fits and scored cells are kept as they end: a run that was stopped goes on
            where it was. Nothing is kept if None. Several processes, as `torchrun` starts them,
            share one folder and the work; the record is the same.
        model: the plan's model, if it is loaded already.
        fresh: forget what the folder holds: after a change of a component's code, say.
        command: what reproduces the record, to be said in it.
        quiet: without progress bars.

    Returns:
        The record as JSON; `grains.report` shows it. In processes other than the first, nothing.

    Raises:
        GrainsError: for data that is missing or a method that the plan gets wrong. A method that
            only cannot be fitted is recorded with the reason.
    """
    kept = None if folder is None else Path(folder).expanduser()
    crew = Crew(kept)
    if fresh:
        if crew.count > 1:
            raise GrainsError(f"fresh is for one process, and there are {crew.count}; wanted one")
        CellStore(kept).forget()
    lm = model or SteerableModel.load(plan.model, dtype=plan.dtype)
    hushed = quiet or crew.rank > 0
    text = plan.neutral_text(lm, quiet=hushed)
    benches = [Bench(plan, one, text, kept, quiet=hushed) for one in plan.behaviours]
    for bench in benches:
        _ = bench.asked  # a missing file is better named now than in an hour
    work = [(bench, named) for bench in benches for named in plan.named(bench.behaviour)]
    mine = work[crew.rank :: crew.count]
    for bench, named in tqdm(mine, desc="Methods", disable=hushed):
        _score(bench, named)
    crew.wait()
    if crew.rank > 0:
        return {}
    return plain(
        {
            "grains": __version__,
            "kind": "comparison",
            "command": command,
            "settings": plan.record(),
            "model": {"name": lm.name, "fingerprint": lm.fingerprint, "dtype": str(lm.dtype)},
            "seed": plan.seed,
            "versions": {"python": platform.python_version()}
            | {name: version(name) for name in ("torch", "transformers", "lightning")},
            "measure": plan.measure,
            "levels": plan.levels,
            "neutral": {
                "name": "packaged text" if plan.neutral is None else plain(plan.neutral),
                "texts": text.count,
                "perplexity": text.perplexity,
            },
            "fits": [record_of(bench) for bench in benches],
        }
    )


def _score(bench: Bench, named: Named) -> None:
    """Compute every cell of a method; what is kept already costs nothing."""
    for point in bench.standing(named).points:
        for asked in bench.asked:
            bench.scores(asked, point)


DONE = "grains/comparison/done"
"""Where processes count those that are through."""


class Crew:
    """The processes that `torchrun` has started, if it has: who of them this is, and who is done.

    Each works by itself and they meet in the folder. There is no process group: metrics would
    otherwise add up what belongs to different methods.

    Args:
        folder: that all of them see.

    Raises:
        GrainsError: for several processes without a folder.
    """

    def __init__(self, folder: Path | None) -> None:
        self.rank, self.count = 0, int(os.environ.get("WORLD_SIZE", "1"))
        if self.count == 1 or dist.is_initialized():  # somebody else has shared the work out
            self.count = 1
            return
        if folder is None:
            raise GrainsError(
                f"{self.count} processes share their work through a folder; wanted one"
            )
        self._store, self.rank, _ = next(rendezvous("env://"))

    def wait(self) -> None:
        """Say that this one is done; in the first process, wait until all are."""
        if self.count == 1:
            return
        done = self._store.add(DONE, 1)
        while self.rank == 0 and done < self.count:
            time.sleep(0.2)
            done = self._store.add(DONE, 0)
