"""Metrics over the rows of two processes, of which each sees some."""

from __future__ import annotations

from datetime import timedelta

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def run(metric, calls):
    """Return the metric after some updates."""
    for call in calls:
        metric.update(*call)
    return metric


def computed(folder, batches):
    """Return each metric to what both processes compute; the first takes one batch, the other all
    that follow. `batches()` gives a metric's class to its calls."""
    mp.spawn(_process, (str(folder), batches), nprocs=2)
    return {
        metric: [torch.load(folder / f"{metric.__name__}.{rank}") for rank in range(2)]
        for metric in batches()
    }


def _process(rank, folder, batches):
    dist.init_process_group(
        "gloo", f"file://{folder}/meet", timedelta(seconds=60), world_size=2, rank=rank
    )
    for metric, calls in batches().items():
        mine = calls[:1] if rank == 0 else calls[1:]
        torch.save(run(metric(), mine).compute(), f"{folder}/{metric.__name__}.{rank}")
    dist.destroy_process_group()
